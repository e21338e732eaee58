"""Deletes models and versions: marks them, so that it can be undone, or purges their rows and files."""

from collections.abc import Sequence

from sqlalchemy import Exists, delete, select
from sqlalchemy.orm import Session

from service.registry.tables import Alias, Model, ModelVersion
from service.shared import events, storage
from service.shared.database import now
from service.shared.errors import Conflict, Fault, NotFound
from service.shared.events import Resource

MAX_PURGED_AT_ONCE = 100


def delete_version(session: Session, project_id: str, name: str, number: int, purge: bool) -> None:
    """Mark a version as deleted; `purge` removes its row and its file, also if it was marked before.

    Raises NotFound, and Conflict while an alias names it.
    """
    model, version = _find(session, project_id, name, number)
    _refuse_named(session, model, [version])
    if purge:
        _purge(session, model, [version])
    elif version.deleted_at is None:
        version.deleted_at = now()
        _tell_version(session, model, number, "deleted")


def restore_version(session: Session, project_id: str, name: str, number: int) -> None:
    """Undo the deletion of a version, and of its model if that was deleted. Raises NotFound."""
    model, version = _find(session, project_id, name, number)
    if version.deleted_at is not None:
        version.deleted_at = None
        _tell_version(session, model, number, "restored")
    _restore(session, model)
    session.flush()


def delete_model(session: Session, project_id: str, name: str, purge: bool) -> None:
    """Mark a model as deleted, and delete its aliases; `purge` removes the rows and files of all its versions.

    Raises NotFound.
    """
    model = _model(session, project_id, name)
    aliases = session.scalars(delete(Alias).where(Alias.model_id == model.id).returning(Alias.name))
    for alias in sorted(aliases):
        events.record(session, project_id, "alias.deleted", Resource("alias", f"{name}/{alias}"))
    versions = session.scalars(select(ModelVersion).where(ModelVersion.model_id == model.id)).all()
    if purge:
        _purge(session, model, versions)
        session.execute(delete(Model).where(Model.id == model.id))
        events.record(session, project_id, "model.purged", Resource("model", name))
    elif model.deleted_at is None:
        model.deleted_at = now()
        events.record(session, project_id, "model.deleted", Resource("model", name))


def restore_model(session: Session, project_id: str, name: str) -> None:
    """Undo the deletion of a model. Versions that were deleted individually stay deleted. Raises NotFound."""
    _restore(session, _model(session, project_id, name))
    session.flush()


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """Delete some versions or models of a purged project with their files. Returns False if it had none."""
    of_project = select(ModelVersion).join(Model, Model.id == ModelVersion.model_id)
    of_project = of_project.where(Model.project_id == project_id).order_by(ModelVersion.id).limit(at_most)
    if versions := session.scalars(of_project).all():
        session.execute(delete(Alias).where(Alias.model_id.in_({version.model_id for version in versions})))
        _remove(session, versions)
        return True
    models = session.scalars(select(Model.id).where(Model.project_id == project_id).limit(at_most)).all()
    session.execute(delete(Model).where(Model.id.in_(models)))
    return bool(models)


def _restore(session: Session, model: Model) -> None:
    if model.deleted_at is not None:
        model.deleted_at = None
        events.record(session, model.project_id, "model.restored", Resource("model", model.name))


def _tell_version(session: Session, model: Model, number: int, verb: str) -> None:
    resource = Resource("model_version", f"{model.name}/{number}")
    events.record(session, model.project_id, f"model_version.{verb}", resource)


def purge_expired(session: Session, seconds: float) -> None:
    """Purge what was deleted longer ago than this: at most MAX_PURGED_AT_ONCE versions of each kind, and models."""
    expired = now(-seconds)
    # Rows that are locked are about to be purged or restored by another process.
    versions = (
        select(Model, ModelVersion)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .limit(MAX_PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for due in (ModelVersion.deleted_at < expired, Model.deleted_at < expired):
        for model, version in session.execute(versions.where(due)).all():
            _purge(session, model, [version])
    empty = select(Model).where(Model.deleted_at < expired, ~_has_versions()).limit(MAX_PURGED_AT_ONCE)
    for model in session.scalars(empty.with_for_update(skip_locked=True)).all():
        session.execute(delete(Model).where(Model.id == model.id))
        events.record(session, model.project_id, "model.purged", Resource("model", model.name))


def _has_versions() -> Exists:
    return select(ModelVersion.id).where(ModelVersion.model_id == Model.id).exists()


def _purge(session: Session, model: Model, versions: Sequence[ModelVersion]) -> None:
    for version in versions:
        _tell_version(session, model, version.version, "purged")
    _remove(session, versions)


def _remove(session: Session, versions: Sequence[ModelVersion]) -> None:
    files = [version.artifact_id for version in versions]
    session.execute(delete(ModelVersion).where(ModelVersion.id.in_([version.id for version in versions])))
    session.flush()
    storage.release(session, files)


def _refuse_named(session: Session, model: Model, versions: Sequence[ModelVersion]) -> None:
    ids = [version.id for version in versions]
    query = select(Alias.name).where(Alias.version_id.in_(ids) | Alias.pending_version_id.in_(ids)).order_by(Alias.name)
    if named := session.scalars(query).all():
        conflict = Conflict(
            "version_in_use", f"the version of {model.name!r} has the aliases {', '.join(named)}; move or delete them"
        )
        conflict.faults = tuple(Fault("", "alias", alias) for alias in named)
        raise conflict


def _model(session: Session, project_id: str, name: str) -> Model:
    # locked: versions and aliases are added before or after this transaction, not during it
    query = select(Model).where(Model.project_id == project_id, Model.name == name).with_for_update()
    model = session.scalar(query)
    if model is None:
        raise NotFound("model", name)
    return model


def _find(session: Session, project_id: str, name: str, number: int) -> tuple[Model, ModelVersion]:
    model = _model(session, project_id, name)
    query = select(ModelVersion).where(ModelVersion.model_id == model.id, ModelVersion.version == number)
    version = session.scalar(query)
    if version is None:
        raise NotFound("model version", f"{name}/{number}")
    return model, version
