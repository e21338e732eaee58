"""Adds, reads and changes models and versions in SQL."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service.registry import representations, schemas
from service.registry.tables import Alias, Model, ModelVersion
from service.shared import events
from service.shared.database import find_or_add
from service.shared.errors import NotFound
from service.shared.events import Resource
from service.shared.period import Period
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

MAX_LISTED = 10_000


def add_version(
    session: Session,
    project_id: str,
    name: str,
    artifact_id: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    lineage: schemas.Lineage,
    evaluation: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> int:
    """Add a stored file as the next version of a model. Returns its number.

    Creates the model if its name is new, and restores it if it was deleted. `run_id` is the run whose result
    the file is; a run has at most one.
    """
    named = select(Model).where(Model.project_id == project_id, Model.name == name)
    new = Model(id=new_id("mod"), project_id=project_id, name=name, last_version=0, tags=[])
    # locked, so that two versions that are added at the same time get different numbers
    model = find_or_add(session, named.with_for_update(), new)
    model.last_version += 1
    if model.deleted_at is not None:
        model.deleted_at = None
        events.record(session, project_id, "model.restored", Resource("model", name))
    version = ModelVersion(
        id=new_id("mdv"),
        model_id=model.id,
        version=model.last_version,
        run_id=run_id,
        artifact_id=artifact_id,
        description=description,
        tags=list(tags),
        config=dict(config),
        metrics=dict(metrics),
        evaluation=evaluation and dict(evaluation),
        lineage=lineage.model_dump(mode="json"),
    )
    session.add(version)
    session.flush()
    resource = Resource("model_version", f"{name}/{version.version}")
    events.record(
        session, project_id, "model_version.created", resource, {"run": None if lineage.imported_from else lineage.run}
    )
    return version.version


def forget_run(session: Session, run_id: str) -> None:
    """Remove the reference to a run that is about to be deleted. The version's lineage still names it."""
    session.execute(update(ModelVersion).where(ModelVersion.run_id == run_id).values(run_id=None))


def get_model(session: Session, project_id: str, name: str) -> schemas.Model:
    """One model, which may be deleted. Raises NotFound."""
    row = session.execute(_models(project_id).where(Model.name == name)).one_or_none()
    if row is None:
        raise NotFound("model", name)
    return representations.of_models(session, [row])[0]


def list_models(
    session: Session, project_id: str, deleted: bool, period: Period, after: str | None, size: int
) -> Sequence[tuple[str, schemas.Model]]:
    """Models newest first, each with its id for paging: the deleted ones, or the others."""
    created = period.of_ids(Model.created_at, Model.id, "mod")
    query = _models(project_id).where(_is(Model, deleted), *created).order_by(Model.id.desc()).limit(size)
    if after is not None:
        query = query.where(Model.id < after)
    rows = session.execute(query).all()
    return [(row[0].id, body) for row, body in zip(rows, representations.of_models(session, rows), strict=True)]


def get_version(session: Session, project_id: str, name: str, number: int) -> schemas.ModelVersion:
    """One version of a model, which may be deleted. Raises NotFound."""
    row = _row(session, project_id, name, number)
    return representations.of_versions(session, name, [row])[0]


def list_versions(
    session: Session, project_id: str, name: str, deleted: bool, period: Period, after: str | None, size: int
) -> Sequence[tuple[str, schemas.ModelVersion]]:
    """A model's versions newest first, each with its id for paging. Raises NotFound for an unknown model."""
    get_model(session, project_id, name)
    created = period.of_ids(ModelVersion.created_at, ModelVersion.id, "mdv")
    query = _versions(project_id, name).where(_is(ModelVersion, deleted), *created)
    query = query.order_by(ModelVersion.id.desc()).limit(size)
    if after is not None:
        query = query.where(ModelVersion.id < after)
    rows = [(row[1], row[2]) for row in session.execute(query)]
    bodies = representations.of_versions(session, name, rows)
    return [(row[0].id, version) for row, version in zip(rows, bodies, strict=True)]


def change_model(session: Session, project_id: str, name: str, changes: schemas.Changes) -> schemas.Model:
    """Set tags or description. Raises NotFound."""
    row = session.execute(_models(project_id).where(Model.name == name)).one_or_none()
    if row is None:
        raise NotFound("model", name)
    _change(session, project_id, row[0], Resource("model", name), changes)
    session.flush()
    return get_model(session, project_id, name)


def change_version(
    session: Session, project_id: str, name: str, number: int, changes: schemas.Changes
) -> schemas.ModelVersion:
    """Set tags or description. Raises NotFound."""
    version, _ = _row(session, project_id, name, number)
    _change(session, project_id, version, Resource("model_version", f"{name}/{number}"), changes)
    session.flush()
    return get_version(session, project_id, name, number)


def find_version(session: Session, project_id: str, name: str, reference: str) -> tuple[ModelVersion, Artifact]:
    """The version of a number or an alias. An empty reference is the alias `production`, or else the newest version.

    Raises NotFound, also for deleted versions and models.
    """
    there = _versions(project_id, name).where(ModelVersion.deleted_at.is_(None), Model.deleted_at.is_(None))
    named = there.join(Alias, Alias.version_id == ModelVersion.id)
    if reference.isdecimal():
        queries = [there.where(ModelVersion.version == int(reference[:18]))]
    elif reference:
        queries = [named.where(Alias.name == reference)]
    else:
        newest = there.order_by(ModelVersion.version.desc()).limit(1)
        queries = [named.where(Alias.name == "production"), newest]
    for query in queries:
        if (row := session.execute(query).one_or_none()) is not None:
            return row[1], row[2]
    if reference and not reference.isdecimal():
        raise NotFound("alias", f"{name}/{reference}")
    raise NotFound("model version", f"{name}/{reference}" if reference else name)


def all_versions(session: Session, project_id: str) -> Sequence[tuple[str, int]]:
    """Model and number of every version that is not deleted, at most `MAX_LISTED`, for lists without pages."""
    query = (
        select(Model.name, ModelVersion.version)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(Model.project_id == project_id, Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None))
        .order_by(Model.name, ModelVersion.version)
    )
    return [(row.name, row.version) for row in session.execute(query.limit(MAX_LISTED))]


def _row(session: Session, project_id: str, name: str, number: int) -> tuple[ModelVersion, Artifact]:
    row = session.execute(_versions(project_id, name).where(ModelVersion.version == number)).one_or_none()
    if row is None:
        raise NotFound("model version", f"{name}/{number}")
    return row[1], row[2]


def _change(
    session: Session, project_id: str, row: Model | ModelVersion, resource: Resource, changes: schemas.Changes
) -> None:
    changed = []
    if changes.tags is not None and row.tags != (tags := list(dict.fromkeys(changes.tags))):
        row.tags = tags
        changed.append("tags")
    if "description" in changes.model_fields_set and row.description != changes.description:
        row.description = changes.description
        changed.append("description")
    if changed:
        events.record(session, project_id, f"{resource.type}.changed", resource, {"changed": changed})


def _is(table: type[Model] | type[ModelVersion], deleted: bool) -> Any:
    return table.deleted_at.is_not(None) if deleted else table.deleted_at.is_(None)


def _models(project_id: str) -> Select[Model, int | None]:
    newest = select(func.max(ModelVersion.version)).where(
        ModelVersion.model_id == Model.id, ModelVersion.deleted_at.is_(None)
    )
    return select(Model, newest.scalar_subquery()).where(Model.project_id == project_id)


def _versions(project_id: str, name: str) -> Select[Model, ModelVersion, Artifact]:
    return (
        select(Model, ModelVersion, Artifact)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .join(Artifact, Artifact.id == ModelVersion.artifact_id)
        .where(Model.project_id == project_id, Model.name == name)
    )
