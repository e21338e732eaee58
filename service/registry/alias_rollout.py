"""How an alias moves: every live engine loads the pending version and reports it, then the alias names it.

SQL carries all of it, so that any number of API and worker processes on any hosts take part.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Select, and_, delete, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from service.registry.tables import Alias, Engine, EngineReport, Model, ModelVersion
from service.shared.database import now
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

# An engine that has not been heard of for longer is not waited for.
ALIVE_SECONDS = 10.0
FORGET_SECONDS = 3600.0
MOST_AT_ONCE = 100


class Wanted(NamedTuple):
    """A version that an engine is to load."""

    version_id: str
    project_id: str
    model: str
    number: int
    sha256: str
    size_bytes: int


class Moved(NamedTuple):
    """An alias that moved, or could not."""

    model: str
    alias: str
    version: int
    error: str | None


def register(session: Session, host: str, pid: int) -> str:
    """Add an engine that starts, and forget those that ended long ago. Returns its id."""
    session.execute(delete(Engine).where(Engine.heartbeat_at < now(-FORGET_SECONDS)))
    engine = Engine(id=new_id("eng"), host=host, pid=pid)
    session.add(engine)
    return engine.id


def beat(session: Session, engine_id: str) -> bool:
    """Say that an engine lives; false when it was taken for dead and forgotten."""
    beaten = update(Engine).where(Engine.id == engine_id).values(heartbeat_at=now()).returning(Engine.id)
    return session.scalar(beaten) is not None


def unregister(session: Session, engine_id: str) -> None:
    """Forget an engine that ends."""
    session.execute(delete(Engine).where(Engine.id == engine_id))


def named(session: Session) -> Sequence[Wanted]:
    """The versions that aliases name, those that moved last first: what an engine that starts is asked for soon."""
    query = _wanted().join(Alias, Alias.version_id == ModelVersion.id).order_by(Alias.updated_at.desc())
    return [*dict.fromkeys(Wanted(*row) for row in session.execute(query.limit(MOST_AT_ONCE)))]


def pending(session: Session, engine_id: str) -> Sequence[Wanted]:
    """The versions that aliases are about to name, and of which this engine has not said that it has them."""
    said = exists().where(
        EngineReport.engine_id == engine_id,
        EngineReport.version_id == Alias.pending_version_id,
        EngineReport.reported_at >= Alias.pending_at,
    )
    query = _wanted().join(Alias, Alias.pending_version_id == ModelVersion.id).where(~said)
    return [*dict.fromkeys(Wanted(*row) for row in session.execute(query.limit(MOST_AT_ONCE)))]


def report(session: Session, engine_id: str, version_id: str, error: str | None) -> None:
    """What came of loading a version: it is ready, or why not."""
    said = and_(EngineReport.engine_id == engine_id, EngineReport.version_id == version_id)
    changed = update(EngineReport).where(said).values(error=error, reported_at=now()).returning(EngineReport.engine_id)
    if session.scalar(changed) is None:
        session.add(EngineReport(engine_id=engine_id, version_id=version_id, error=error))


def move(session: Session, warm_timeout_seconds: float) -> Sequence[Moved]:
    """Move the aliases whose pending version is ready on every live engine, or has waited long enough.

    Where an engine could not load it the alias stays, and says why.
    """
    alive = Engine.heartbeat_at > now(-ALIVE_SECONDS)
    said = and_(
        EngineReport.engine_id == Engine.id,
        EngineReport.version_id == Alias.pending_version_id,
        EngineReport.reported_at >= Alias.pending_at,
    )
    failed = (
        select(EngineReport.error)
        .join(Engine, Engine.id == EngineReport.engine_id)
        .where(alive, said, EngineReport.error.is_not(None))
        .limit(1)
        .correlate(Alias)
        .scalar_subquery()
    )
    somebody_is_not_ready = exists().where(alive, ~exists().where(said).correlate(Alias, Engine)).correlate(Alias)
    to_be = aliased(ModelVersion)
    query = (
        select(Alias, Model.name, to_be.version, failed)
        .join(Model, Model.id == Alias.model_id)
        .join(to_be, to_be.id == Alias.pending_version_id)
        .where(
            or_(~somebody_is_not_ready, failed.is_not(None), Alias.pending_at < now(-warm_timeout_seconds)),
        )
        .with_for_update(of=Alias, skip_locked=True)
    )
    moved = []
    for alias, model, number, error in session.execute(query).all():
        if error is None:
            alias.version_id = alias.pending_version_id
        alias.error, alias.pending_version_id, alias.pending_at = error, None, None
        moved.append(Moved(model, alias.name, number, error))
    session.flush()
    return moved


def has_pending(session: Session) -> bool:
    """Whether any alias waits to move."""
    return session.scalar(select(Alias.id).where(Alias.pending_version_id.is_not(None)).limit(1)) is not None


def _wanted() -> Select[str, str, str, int, str, int]:
    """Rows of `Wanted`."""
    file = Artifact.sha256, Artifact.size_bytes
    return (
        select(ModelVersion.id, Model.project_id, Model.name, ModelVersion.version, *file)
        .join(Model, Model.id == ModelVersion.model_id)
        .join(Artifact, Artifact.id == ModelVersion.artifact_id)
    )
