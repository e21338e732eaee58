"""/v1/models: names and versions."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.paging import page_of
from service.http.query_parameters import QueryModel, TimedPageQuery
from service.registry import deletion, schemas
from service.registry import operations as registry
from service.shared.resource_names import Reference, VersionNumber

router = APIRouter(prefix="/v1/models", tags=["registry"], route_class=AuthenticatedRoute)


class ModelQuery(TimedPageQuery):
    """Which models or versions to list."""

    deleted: Annotated[bool, Field(description="List the deleted ones instead of the others.")] = False


class DeleteQuery(QueryModel):
    """How to delete a model or version."""

    purge: Annotated[bool, Field(description="Delete it with its file; this cannot be undone.")] = False


@router.get("", operation_id="list_models", summary="List the models of the project")
def list_models(
    query: Annotated[ModelQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.ModelPage:
    """The project's models, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        rows = registry.list_models(session, caller.project_id, query.deleted, query.period, page.after, page.size + 1)
    items, token = page.cut(rows)
    return schemas.ModelPage(models=items, next_page_token=token)


@router.get("/{name}", operation_id="get_model", summary="Get a model", responses=errors("model_not_found"))
def get_model(name: Reference, caller: Caller, services: Web) -> schemas.Model:
    """A model with its aliases and the number of its newest version."""
    with services.database.reader() as session:
        return registry.get_model(session, caller.project_id, name)


@router.patch(
    "/{name}",
    operation_id="change_model",
    summary="Change tags or description of a model",
    responses=errors("model_not_found"),
)
def change_model(name: Reference, body: schemas.Changes, caller: Caller, services: Web) -> schemas.Model:
    """Set a model's tags or description."""
    with services.database.writer.begin() as session:
        return registry.change_model(session, caller.project_id, name, body)


@router.delete(
    "/{name}",
    status_code=204,
    operation_id="delete_model",
    summary="Delete a model",
    responses=errors("model_not_found"),
)
def delete_model(name: Reference, query: Annotated[DeleteQuery, Query()], caller: Caller, services: Web) -> None:
    """Delete a model with its versions and aliases. `restore` undoes it, except for the aliases."""
    with services.database.writer.begin() as session:
        deletion.delete_model(session, caller.project_id, name, query.purge)


@router.post(
    "/{name}/restore",
    operation_id="restore_model",
    summary="Restore a deleted model",
    responses=errors("model_not_found"),
)
def restore_model(name: Reference, caller: Caller, services: Web) -> schemas.Model:
    """Undo the deletion of a model that was not purged."""
    with services.database.writer.begin() as session:
        deletion.restore_model(session, caller.project_id, name)
        return registry.get_model(session, caller.project_id, name)


@router.get(
    "/{name}/versions",
    operation_id="list_model_versions",
    summary="List versions of a model",
    response_model=schemas.ModelVersionPage,
    responses=errors("model_not_found"),
)
def list_model_versions(
    name: Reference, query: Annotated[ModelQuery, Query()], request: Request, caller: Caller, services: Web
) -> Response:
    """A model's versions, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        versions = registry.list_versions(
            session, caller.project_id, name, query.deleted, query.period, page.after, page.size + 1
        )
    return page.response("versions", versions)


@router.get(
    "/{name}/versions/{version}",
    operation_id="get_model_version",
    summary="Get a version of a model",
    responses=errors("model_version_not_found"),
)
def get_model_version(name: Reference, version: VersionNumber, caller: Caller, services: Web) -> schemas.ModelVersion:
    """A version with its inputs, lineage and evaluation."""
    with services.database.reader() as session:
        return registry.get_version(session, caller.project_id, name, version)


@router.patch(
    "/{name}/versions/{version}",
    operation_id="change_model_version",
    summary="Change tags or description of a version",
    responses=errors("model_version_not_found"),
)
def change_model_version(
    name: Reference, version: VersionNumber, body: schemas.Changes, caller: Caller, services: Web
) -> schemas.ModelVersion:
    """Set a version's tags or description."""
    with services.database.writer.begin() as session:
        return registry.change_version(session, caller.project_id, name, version, body)


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    operation_id="delete_model_version",
    summary="Delete a version of a model",
    responses=errors("model_not_found", "model_version_not_found", "version_in_use"),
)
def delete_model_version(
    name: Reference, version: VersionNumber, query: Annotated[DeleteQuery, Query()], caller: Caller, services: Web
) -> None:
    """Delete a version; refused while an alias names it. `restore` undoes it."""
    with services.database.writer.begin() as session:
        deletion.delete_version(session, caller.project_id, name, version, query.purge)


@router.post(
    "/{name}/versions/{version}/restore",
    operation_id="restore_model_version",
    summary="Restore a deleted version",
    responses=errors("model_not_found", "model_version_not_found"),
)
def restore_model_version(
    name: Reference, version: VersionNumber, caller: Caller, services: Web
) -> schemas.ModelVersion:
    """Undo the deletion of a version that was not purged."""
    with services.database.writer.begin() as session:
        deletion.restore_version(session, caller.project_id, name, version)
        return registry.get_version(session, caller.project_id, name, version)
