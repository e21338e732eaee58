"""Tables of uploads, datasets and dataset versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Table


class Upload(Table):
    """An uploaded file."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    format: Mapped[str] = mapped_column(String(20))
    # Name, shape and dtype of every array of an .npz file, from its headers.
    arrays: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())


_THERE = text("deleted_at IS NULL")
_MARKED = text("deleted_at IS NOT NULL AND purged_at IS NULL")


class Dataset(Table):
    """A name with numbered versions."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())
    # A new version clears both; numbers are not reused.
    deleted_at: Mapped[datetime | None]
    # When the files of all its versions were deleted: then the dataset is not found.
    purged_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_datasets_listed", "project_id", "id", sqlite_where=_THERE, postgresql_where=_THERE),
        Index("ix_datasets_marked", "deleted_at", sqlite_where=_MARKED, postgresql_where=_MARKED),
    )


class DatasetVersion(Table):
    """Immutable samples with a schema and statistics. Its job makes them and carries its state."""

    __tablename__ = "dataset_versions"

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    version: Mapped[int]
    source: Mapped[dict[str, Any]]
    # The declaration of the request.
    declaration: Mapped[dict[str, Any]]
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    schema: Mapped[dict[str, Any] | None]
    statistics: Mapped[dict[str, Any] | None]
    # What the conversion inferred or found doubtful: code, detail, column.
    warnings: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # Of the stored file. It stays after the file is deleted, to identify what models were trained on.
    sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]
    # When its file was deleted. The row stays for the runs and models that refer to it.
    purged_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("dataset_id", "version"),
        Index(None, "artifact_id"),
        Index("ix_dataset_versions_marked", "deleted_at", sqlite_where=_MARKED, postgresql_where=_MARKED),
    )
