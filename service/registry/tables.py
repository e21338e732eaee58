"""Tables of models, their versions and aliases, and the engines that serve them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.shared.database import now
from service.shared.table_base import Table

_MARKED = text("deleted_at IS NOT NULL")


class Model(Table):
    """A name in the registry."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    description: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # The highest number that a version has had: numbers of deleted versions are not used again.
    last_version: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_models_marked", "deleted_at", sqlite_where=_MARKED, postgresql_where=_MARKED),
    )


class ModelVersion(Table):
    """An immutable trained artifact; tags and description may change. A run makes at most one."""

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
    # On rows that were not trained on; null for checkpoints and imports without one.
    evaluation: Mapped[dict[str, Any] | None]
    lineage: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        Index("ix_model_versions_marked", "deleted_at", sqlite_where=_MARKED, postgresql_where=_MARKED),
    )


class Alias(Table):
    """A movable name of a version, such as `production`. It moves once the engines have loaded the pending one."""

    __tablename__ = "aliases"

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    name: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    pending_version_id: Mapped[str | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    pending_at: Mapped[datetime | None]
    # Why the last change of the version failed.
    error: Mapped[str | None] = mapped_column(Text)
    # Number of changes of the version.
    revision: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime] = mapped_column(default=now(), onupdate=now())

    __table_args__ = (UniqueConstraint("model_id", "name"),)


class Engine(Table):
    """A process that answers inference requests."""

    __tablename__ = "engines"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(default=now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=now(), index=True)


class EngineReport(Table):
    """Whether an engine has loaded the pending version of an alias."""

    __tablename__ = "engine_reports"

    engine_id: Mapped[str] = mapped_column(ForeignKey("engines.id", ondelete="CASCADE"), primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True)
    # Why it could not be loaded; null if it is loaded.
    error: Mapped[str | None] = mapped_column(Text)
    reported_at: Mapped[datetime] = mapped_column(default=now())
