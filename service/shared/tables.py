"""Every SQL table, in one metadata.

Project ─┬─ ApiKey
         ├─ AuditEvent               who did what
         ├─ IdempotencyKey           answers that are given again
         ├─ Job ── JobEvent, JobLog  the state machine of everything a worker does
         ├─ Artifact                 a content-addressed file
         ├─ Upload ── Artifact
         ├─ Dataset ── DatasetVersion ── Job (convert), Artifact
         ├─ Run ── Job (train), DatasetVersion; RunTag, RunMetric, RunProgress, RunCheckpoint ── Artifact
         └─ Model ─┬─ ModelVersion ── Run, Artifact
                   └─ Alias ── ModelVersion  (and the one that it is about to name)
Worker                               the processes that are alive
Engine ── EngineReport ── ModelVersion       those that answer inference, and what they have loaded when asked to
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from ulid import ULID

from service.shared.database import Timestamp, now

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
Serial = BigInteger().with_variant(Integer(), "sqlite")

STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
FINAL_STATES = ("succeeded", "failed", "cancelled")


def new_id(prefix: str) -> str:
    """A prefixed id that sorts by the time it was made, such as `run_01K…`."""
    return f"{prefix}_{ULID()}"


class Table(DeclarativeBase):
    """Base of all tables; names of constraints follow one convention, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 SQLAlchemy reads it
        datetime: Timestamp(),
        dict[str, Any]: Json,
        list[Any]: Json,
        str: String(200),
    }


class Project(Table):
    """The tenant that owns everything else."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    # When a worker last took a job of this project: equal priorities take projects in turn.
    served_at: Mapped[datetime | None]
    # Whether its administrators may make other projects.
    operates: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Upper limits of its own; null is the installation's.
    most_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    most_queued_runs: Mapped[int | None] = mapped_column(BigInteger)
    most_running_runs: Mapped[int | None] = mapped_column(BigInteger)
    most_request_rows: Mapped[int | None] = mapped_column(BigInteger)
    most_requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now())


class ApiKey(Table):
    """A key of a project; only the hash of its secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEvent(Table):
    """Something that a key has done. Triggers in the database refuse to change or delete any."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # Null for the command line.
    key_id: Mapped[str | None]
    # The operation id of the API, or the command.
    action: Mapped[str]
    resource: Mapped[str] = mapped_column(Text)
    # Ids of the rows that came to be.
    made: Mapped[list[Any]]
    request_id: Mapped[str | None]
    client: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "project_id", "id"),)


class IdempotencyKey(Table):
    """The answer to a request that may be sent again, kept with what the request made."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    # Of method, path, query and body: the same key must not be used for something else.
    fingerprint: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]] = mapped_column(JSON())  # as it was written, unlike JSONB
    created_at: Mapped[datetime] = mapped_column(default=now(), index=True)


class Job(Table):
    """Anything a worker does that must not be lost; changed only by `service.jobs.operations`."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str] = mapped_column(String(20))
    queue: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="queued")
    priority: Mapped[int] = mapped_column(default=0)
    devices: Mapped[int] = mapped_column(default=1)
    # The fencing token: every claim adds one, and an owner writes only while it is still its own.
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    failures: Mapped[int] = mapped_column(default=0)
    preemptions: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime] = mapped_column(default=now())
    dispatch_after: Mapped[datetime] = mapped_column(default=now())
    dispatches: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    pause_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    timeout_seconds: Mapped[float | None]
    phase: Mapped[str | None] = mapped_column(String(40))
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    waiting_reason: Mapped[str | None]
    # The request that asked for it, for those who read logs.
    request_id: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(
            "state <> 'running' OR (owner IS NOT NULL AND lease_expires_at IS NOT NULL)", name="running_is_leased"
        ),
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        Index(None, "project_id", "created_at"),
        # The claim (T3), the wake-up (T2) and the reaper (T8) each read a few rows of a table that only grows.
        Index("ix_jobs_claim", "queue", "state", "priority", "id"),
        Index("ix_jobs_dispatch", "state", "dispatch_after"),
        Index("ix_jobs_lease", "state", "lease_expires_at"),
        # Lists of a project's jobs in some states, newest first.
        Index("ix_jobs_listed", "project_id", "kind", "state", "id"),
    )


class JobEvent(Table):
    """Something that happened to a job, for people to read."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    level: Mapped[str] = mapped_column(String(10))
    type: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "job_id", "id"),)


class JobLog(Table):
    """A piece of what an attempt wrote to its standard error."""

    __tablename__ = "job_logs"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "job_id", "id"),)


class Artifact(Table):
    """A file in the store, named by its content within the project."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20), default="available")
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (
        UniqueConstraint("project_id", "sha256"),
        CheckConstraint("state IN ('available', 'deleting', 'deleted')", name="state"),
        CheckConstraint("size_bytes >= 0", name="size"),
    )


class Upload(Table):
    """A raw file as it came in."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    format: Mapped[str] = mapped_column(String(20))
    # Of .npz files, from the arrays' headers: name, shape, dtype.
    arrays: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())


_THERE = text("deleted_at IS NULL")


class Dataset(Table):
    """A name under which versions are kept."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())
    # Set when all its versions were deleted; a new version brings the name back, and numbers go on.
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_datasets_listed", "project_id", "id", sqlite_where=_THERE, postgresql_where=_THERE),
    )


class DatasetVersion(Table):
    """Immutable samples with a schema and statistics, once its job has made them. The job carries its state."""

    __tablename__ = "dataset_versions"

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    version: Mapped[int]
    source: Mapped[dict[str, Any]]
    # What the caller declared: a schema, how NaN is meant.
    declaration: Mapped[dict[str, Any]]
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    schema: Mapped[dict[str, Any] | None]
    statistics: Mapped[dict[str, Any] | None]
    # What the conversion inferred and doubts: code, detail, column.
    warnings: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # Of the stored file; what was trained on it is told by this when the file is gone.
    sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())
    # Its file is gone then; the row stays for the runs and models that were made of it.
    deleted_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("dataset_id", "version"), Index(None, "artifact_id"))


class Run(Table):
    """One training: what was asked for. Its job carries its state."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    dataset_version_id: Mapped[str] = mapped_column(ForeignKey("dataset_versions.id"))
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    # The weights that the training begins with: of a model version, or of a checkpoint.
    init_from: Mapped[dict[str, Any] | None]
    init_artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    preset: Mapped[str | None] = mapped_column(String(40))
    description: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str]
    architecture: Mapped[dict[str, Any]]
    training: Mapped[dict[str, Any]]
    # Parameters and memory, worked out once: runs are read far more often than made.
    estimate: Mapped[dict[str, Any] | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    # How good the result is on rows it has not seen; null until there is one.
    evaluation: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    # Lists are in the order of the jobs' ids, which sort by time.
    __table_args__ = (
        Index(None, "project_id", "job_id"),
        Index(None, "project_id", "model_name", "job_id"),
        Index(None, "dataset_version_id", "job_id"),
        Index(None, "init_artifact_id"),
    )


class RunTag(Table):
    """A word by which runs are found again."""

    __tablename__ = "run_tags"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))

    __table_args__ = (Index(None, "project_id", "tag", "job_id"),)


class RunProgress(Table):
    """The newest value of every metric of a run, so that lists need not search for them."""

    __tablename__ = "run_progress"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[int]
    metrics: Mapped[dict[str, Any]]


class RunCheckpoint(Table):
    """A state of a training to go on from, which is a model too."""

    __tablename__ = "run_checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    # Why it was made: an interval passed, an epoch is to be kept, the training was stopped, or it diverged.
    reason: Mapped[str] = mapped_column(String(20))
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    # What computed it.
    libraries: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    git_revision: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "run_id", "step"),)


class RunMetric(Table):
    """One value of one metric at one step. NaN and the infinities are a null value and a flag."""

    __tablename__ = "run_metrics"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    attempt: Mapped[int]
    name: Mapped[str]
    step: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[int]
    value: Mapped[float | None]
    not_finite: Mapped[str | None] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "run_id", "name", "step"),)


class Model(Table):
    """A name in the registry."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    description: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # The number of the newest version there ever was: a number that was given once means nothing else later.
    last_version: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("project_id", "name"),)


class ModelVersion(Table):
    """An immutable trained artifact; what is said about it may change. A run makes at most one."""

    __tablename__ = "model_versions"

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"), unique=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    description: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    config: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    # How good it is on rows it has not seen; null where nobody has measured it, as for a checkpoint.
    evaluation: Mapped[dict[str, Any] | None]
    lineage: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("model_id", "version"),)


class Alias(Table):
    """A movable name of a version, such as `production`. It moves once the engines have loaded the pending one."""

    __tablename__ = "aliases"

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    name: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    pending_version_id: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    pending_at: Mapped[datetime | None]
    # Why it did not move when it was told to last.
    error: Mapped[str | None] = mapped_column(Text)
    # Counts how often it was told to move.
    revision: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime] = mapped_column(default=now(), onupdate=now())

    __table_args__ = (UniqueConstraint("model_id", "name"),)


class Worker(Table):
    """A worker process: where it runs, what it serves, when it was last heard of."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    queue: Mapped[str] = mapped_column(String(20))
    devices: Mapped[list[Any]]
    versions: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    started_at: Mapped[datetime] = mapped_column(default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=now(), index=True)
    stopped_at: Mapped[datetime | None]


class Engine(Table):
    """A process that answers inference requests."""

    __tablename__ = "engines"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=now(), index=True)


class EngineReport(Table):
    """What came of loading a version that an alias is about to name."""

    __tablename__ = "engine_reports"

    engine_id: Mapped[str] = mapped_column(ForeignKey("engines.id", ondelete="CASCADE"), primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True)
    # Why it could not be loaded; null when it is ready.
    error: Mapped[str | None] = mapped_column(Text)
    reported_at: Mapped[datetime] = mapped_column(default=now())
