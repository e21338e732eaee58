"""Tables of runs, their tags, metrics and checkpoints."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Serial, Table


class Run(Table):
    """The configuration of one training. Its job has its state."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    dataset_version_id: Mapped[str] = mapped_column(ForeignKey("dataset_versions.id"))
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    # The initial weights: of a model version, or of a checkpoint.
    init_from: Mapped[dict[str, Any] | None]
    init_artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    preset: Mapped[str | None] = mapped_column(String(40))
    description: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str]
    architecture: Mapped[dict[str, Any]]
    training: Mapped[dict[str, Any]]
    # Parameters and memory, computed once: runs are read more often than created.
    estimate: Mapped[dict[str, Any] | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    # On rows that were not trained on; null until the run has succeeded.
    evaluation: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    # Lists are ordered by the jobs' ids, which sort by time.
    __table_args__ = (
        Index(None, "project_id", "job_id"),
        Index(None, "project_id", "model_name", "job_id"),
        Index(None, "dataset_version_id", "job_id"),
        Index(None, "init_artifact_id"),
    )


class RunTag(Table):
    """A tag, by which lists of runs can be filtered."""

    __tablename__ = "run_tags"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))

    __table_args__ = (Index(None, "project_id", "tag", "job_id"),)


class RunLatestMetric(Table):
    """The newest value of one metric of a run, by which lists are sorted and filtered; null if it is not finite."""

    __tablename__ = "run_latest_metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("runs.job_id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    value: Mapped[float | None]

    __table_args__ = (Index("ix_run_latest_metrics_listed", "project_id", "name", "value", "job_id"),)


class RunCheckpoint(Table):
    """A stored state of a training, which is also a model."""

    __tablename__ = "run_checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    # interval, epoch, stopped, diverged
    reason: Mapped[str] = mapped_column(String(20))
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    # The code that computed it.
    libraries: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    git_revision: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now())

    __table_args__ = (Index(None, "run_id", "step"),)


class RunMetric(Table):
    """One value of one metric at one step. NaN and the infinities are stored as null and a flag."""

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
