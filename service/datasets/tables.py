"""Tables of uploads, datasets and dataset versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Table


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
