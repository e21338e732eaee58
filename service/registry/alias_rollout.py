"""Moves aliases: every live engine loads the pending version and reports it, then the alias names it.

All of it is in SQL, so that any number of API and worker processes on any hosts take part.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Select, and_, delete, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from service.registry.tables import Alias, Engine, EngineReport, Model, ModelVersion
from service.shared import events
from service.shared.database import now
from service.shared.events import Resource
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

# An alias does not wait for an engine whose last heartbeat is older.
ALIVE_SECONDS = 10.0
FORGET_SECONDS = 3600.0
MAX_AT_ONCE = 100


class VersionToLoad(NamedTuple):
    """A version that an engine has to load."""

    version_id: str
    project_id: str
    model: str
    number: int
    sha256: str
    size_bytes: int


class Moved(NamedTuple):
    """An alias that moved, or failed to move because of `error`."""

    model: str
    alias: str
    version: int
    error: str | None


def register(session: Session, host: str, pid: int) -> str:
    """Add an engine that starts, and delete engines without a heartbeat for an hour. Returns its id."""
    session.execute(delete(Engine).where(Engine.heartbeat_at < now(-FORGET_SECONDS)))
    engine = Engine(id=new_id("eng"), host=host, pid=pid)
    session.add(engine)
    return engine.id


def beat(session: Session, engine_id: str) -> bool:
    """Record a heartbeat of an engine. Returns false if its row was deleted: it has to register again."""
    beaten = update(Engine).where(Engine.id == engine_id).values(heartbeat_at=now()).returning(Engine.id)
    return session.scalar(beaten) is not None


def unregister(session: Session, engine_id: str) -> None:
    """Delete the row of an engine that ends."""
    session.execute(delete(Engine).where(Engine.id == engine_id))


def named(session: Session) -> Sequence[VersionToLoad]:
    """The versions that aliases name, the latest changes first: requests for them are likely soon after a start."""
    query = _versions_to_load().join(Alias, Alias.version_id == ModelVersion.id).order_by(Alias.updated_at.desc())
    return [*dict.fromkeys(VersionToLoad(*row) for row in session.execute(query.limit(MAX_AT_ONCE)))]


def pending(session: Session, engine_id: str) -> Sequence[VersionToLoad]:
    """The pending versions of aliases on which this engine has not reported yet."""
    has_reported = exists().where(
        EngineReport.engine_id == engine_id,
        EngineReport.version_id == Alias.pending_version_id,
        EngineReport.reported_at >= Alias.pending_at,
    )
    query = _versions_to_load().join(Alias, Alias.pending_version_id == ModelVersion.id).where(~has_reported)
    return [*dict.fromkeys(VersionToLoad(*row) for row in session.execute(query.limit(MAX_AT_ONCE)))]


def report(session: Session, engine_id: str, version_id: str, error: str | None) -> None:
    """Record that an engine has loaded a version, or why it could not."""
    this_report = and_(EngineReport.engine_id == engine_id, EngineReport.version_id == version_id)
    changed = (
        update(EngineReport).where(this_report).values(error=error, reported_at=now()).returning(EngineReport.engine_id)
    )
    if session.scalar(changed) is None:
        session.add(EngineReport(engine_id=engine_id, version_id=version_id, error=error))


def move(session: Session, warm_timeout_seconds: float) -> Sequence[Moved]:
    """Move the aliases whose pending version every live engine has loaded, or that have waited for the timeout.

    An alias whose pending version an engine could not load keeps its version, and records the error.
    """
    alive = Engine.heartbeat_at > now(-ALIVE_SECONDS)
    has_reported = and_(
        EngineReport.engine_id == Engine.id,
        EngineReport.version_id == Alias.pending_version_id,
        EngineReport.reported_at >= Alias.pending_at,
    )
    failed = (
        select(EngineReport.error)
        .join(Engine, Engine.id == EngineReport.engine_id)
        .where(alive, has_reported, EngineReport.error.is_not(None))
        .limit(1)
        .correlate(Alias)
        .scalar_subquery()
    )
    an_engine_is_not_ready = (
        exists().where(alive, ~exists().where(has_reported).correlate(Alias, Engine)).correlate(Alias)
    )
    to_be = aliased(ModelVersion)
    query = (
        select(Alias, Model, to_be.version, failed)
        .join(Model, Model.id == Alias.model_id)
        .join(to_be, to_be.id == Alias.pending_version_id)
        .where(
            or_(~an_engine_is_not_ready, failed.is_not(None), Alias.pending_at < now(-warm_timeout_seconds)),
        )
        .with_for_update(of=Alias, skip_locked=True)
    )
    moved = []
    for alias, model, number, error in session.execute(query).all():
        if error is None:
            alias.version_id = alias.pending_version_id
        alias.error, alias.pending_version_id, alias.pending_at = error, None, None
        type, data = ("alias.moved", {"version": number}) if error is None else ("alias.changed", {"error": error})
        events.record(session, model.project_id, type, Resource("alias", f"{model.name}/{alias.name}"), data)
        moved.append(Moved(model.name, alias.name, number, error))
    session.flush()
    return moved


def has_pending(session: Session) -> bool:
    """Whether any alias has a pending version."""
    return session.scalar(select(Alias.id).where(Alias.pending_version_id.is_not(None)).limit(1)) is not None


def _versions_to_load() -> Select[str, str, str, int, str, int]:
    """Rows of `VersionToLoad`."""
    file = Artifact.sha256, Artifact.size_bytes
    return (
        select(ModelVersion.id, Model.project_id, Model.name, ModelVersion.version, *file)
        .join(Model, Model.id == ModelVersion.model_id)
        .join(Artifact, Artifact.id == ModelVersion.artifact_id)
    )
