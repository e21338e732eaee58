"""Sets, reads and deletes aliases. `alias_rollout` moves them once the engines have loaded the version."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.registry import representations, schemas
from service.registry.tables import Alias, Model, ModelVersion
from service.shared import events
from service.shared.database import now
from service.shared.errors import Conflict, NotFound, PreconditionFailed
from service.shared.events import Resource
from service.shared.table_base import new_id

MAX_ALIASES = 100


def put(
    session: Session,
    project_id: str,
    name: str,
    alias: str,
    number: int,
    expected: int | None,
    only_new: bool,
    only_old: bool = False,
) -> tuple[schemas.Alias, bool]:
    """Set the version that an alias names. Returns the alias, and whether it is new.

    A new alias names the version at once. An existing one names the old version until the engines have loaded the new
    one. Raises NotFound. Raises PreconditionFailed when the revision is not the `expected` one, when the alias exists
    and `only_new` is set, or when it does not and `only_old` is set.
    """
    model = _model(session, project_id, name)
    version = session.scalar(
        select(ModelVersion).where(
            ModelVersion.model_id == model.id, ModelVersion.version == number, ModelVersion.deleted_at.is_(None)
        )
    )
    if version is None:
        raise NotFound("model version", f"{name}/{number}")
    resource = Resource("alias", f"{name}/{alias}")
    row = session.scalar(select(Alias).where(Alias.model_id == model.id, Alias.name == alias).with_for_update())
    _check(row, expected, only_new)
    if row is None and only_old:
        raise PreconditionFailed("alias_missing", "the alias does not exist, If-Match expects any that does")
    if row is None:
        _check_room(session, model)
        row = Alias(id=new_id("als"), model_id=model.id, name=alias, version_id=version.id, revision=1)
        session.add(row)
        session.flush()
        events.record(session, project_id, "alias.created", resource, {"version": number})
        return representations.of_alias(session, name, row), True
    moves = version.id != row.version_id
    row.pending_version_id = version.id if moves else None
    row.pending_at = now() if moves else None
    row.error = None
    row.revision += 1
    session.flush()
    events.record(session, project_id, "alias.changed", resource, {"pending_version": number if moves else None})
    session.refresh(row)
    return representations.of_alias(session, name, row), False


def get(session: Session, project_id: str, name: str, alias: str) -> schemas.Alias:
    """One alias. Raises NotFound."""
    return representations.of_alias(session, name, _find(session, project_id, name, alias))


def list_aliases(
    session: Session, project_id: str, name: str, after: str | None, size: int
) -> Sequence[tuple[str, schemas.Alias]]:
    """A model's aliases after the alias `after`, by name, each with its name for paging.

    Raises NotFound for an unknown model.
    """
    model = _model(session, project_id, name)
    query = select(Alias).where(Alias.model_id == model.id).order_by(Alias.name).limit(size)
    if after is not None:
        query = query.where(Alias.name > after)
    return [(row.name, representations.of_alias(session, name, row)) for row in session.scalars(query).all()]


def remove(session: Session, project_id: str, name: str, alias: str, expected: int | None) -> None:
    """Delete an alias. Raises NotFound, PreconditionFailed."""
    row = _find(session, project_id, name, alias, lock=True)
    _check(row, expected, only_new=False)
    session.execute(delete(Alias).where(Alias.id == row.id))
    events.record(session, project_id, "alias.deleted", Resource("alias", f"{name}/{alias}"))


def _check(alias: Alias | None, expected: int | None, only_new: bool) -> None:
    if expected is not None and (alias is None or alias.revision != expected):
        has = "does not exist" if alias is None else f"has revision {alias.revision}"
        raise PreconditionFailed("revision_mismatch", f"the alias {has}, If-Match expects {expected}")
    if only_new and alias is not None:
        raise PreconditionFailed("alias_exists", f"the alias exists, with revision {alias.revision}")


def _check_room(session: Session, model: Model) -> None:
    if (session.scalar(select(func.count()).where(Alias.model_id == model.id)) or 0) >= MAX_ALIASES:
        raise Conflict("too_many_aliases", f"model {model.name!r} has {MAX_ALIASES} aliases; delete one first")


def _model(session: Session, project_id: str, name: str) -> Model:
    query = select(Model).where(Model.project_id == project_id, Model.name == name, Model.deleted_at.is_(None))
    model = session.scalar(query.with_for_update())
    if model is None:
        raise NotFound("model", name)
    return model


def _find(session: Session, project_id: str, name: str, alias: str, lock: bool = False) -> Alias:
    query = (
        select(Alias)
        .join(Model, Model.id == Alias.model_id)
        .where(Model.project_id == project_id, Model.name == name, Alias.name == alias)
    )
    row = session.scalar(query.with_for_update(of=Alias) if lock else query)
    if row is None:
        raise NotFound("alias", f"{name}/{alias}")
    return row
