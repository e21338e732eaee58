"""Deletes models and versions: marks them, so that it can be undone, or purges their rows and files."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.registry.tables import Alias, Model, ModelVersion
from service.shared import storage
from service.shared.database import now
from service.shared.errors import Conflict, Fault, NotFound


def delete_version(session: Session, project_id: str, name: str, number: int, purge: bool) -> None:
    """Mark a version as deleted; `purge` removes its row and its file, also if it was marked before.

    Raises NotFound, and Conflict while an alias names it.
    """
    model, version = _find(session, project_id, name, number)
    _refuse_named(session, model, [version])
    version.deleted_at = version.deleted_at or now()
    if purge:
        _purge(session, [version])


def restore_version(session: Session, project_id: str, name: str, number: int) -> None:
    """Undo the deletion of a version, and of its model if that was deleted. Raises NotFound."""
    model, version = _find(session, project_id, name, number)
    version.deleted_at = model.deleted_at = None
    session.flush()


def delete_model(session: Session, project_id: str, name: str, purge: bool) -> None:
    """Mark a model as deleted, and delete its aliases; `purge` removes the rows and files of all its versions.

    Raises NotFound.
    """
    model = _model(session, project_id, name)
    session.execute(delete(Alias).where(Alias.model_id == model.id))
    versions = session.scalars(select(ModelVersion).where(ModelVersion.model_id == model.id)).all()
    if purge:
        _purge(session, versions)
        session.execute(delete(Model).where(Model.id == model.id))
        return
    model.deleted_at = model.deleted_at or now()


def restore_model(session: Session, project_id: str, name: str) -> None:
    """Undo the deletion of a model. Versions that were deleted individually stay deleted. Raises NotFound."""
    _model(session, project_id, name).deleted_at = None
    session.flush()


def _purge(session: Session, versions: Sequence[ModelVersion]) -> None:
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
