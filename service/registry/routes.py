"""/v1/models: names and versions."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.idempotency import OnceByBody
from service.keyed import KeyedRoute
from service.registry import operations as registry
from service.registry import schemas
from service.shared.names import Name, Reference
from service.web import Caller, Paging, Web

router = APIRouter(prefix="/v1/models", tags=["registry"], route_class=KeyedRoute)

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of the version.")]


@router.get("", operation_id="list_models")
def list_models(page: Paging, caller: Caller, services: Web) -> schemas.ModelPage:
    """The project's models, newest first."""
    with services.database.reader() as session:
        items, token = page.cut(registry.list_models(session, caller.project_id, page.after, page.size + 1))
    return schemas.ModelPage(models=items, next_page_token=token)


@router.get("/{name}", operation_id="get_model")
def get_model(name: Reference, caller: Caller, services: Web) -> schemas.Model:
    """A model's name and newest version."""
    with services.database.reader() as session:
        return registry.get_model(session, caller.project_id, name)


@router.get("/{name}/versions", operation_id="list_model_versions")
def list_model_versions(name: Reference, page: Paging, caller: Caller, services: Web) -> schemas.ModelVersionPage:
    """A model's versions, newest first."""
    with services.database.reader() as session:
        items, token = page.cut(registry.list_versions(session, caller.project_id, name, page.after, page.size + 1))
    return schemas.ModelVersionPage(versions=items, next_page_token=token)


@router.post("/{name}/versions", status_code=201, operation_id="create_model_version")
def create_model_version(
    name: Name, body: schemas.VersionRequest, response: Response, caller: Caller, services: Web, once: OnceByBody
) -> schemas.ModelVersion:
    """Make a run's checkpoint the next version of a model."""
    version = once.do(
        services.database,
        lambda session: registry.register_checkpoint(session, caller.project_id, name, body),
        schemas.ModelVersion,
    )
    response.headers["Location"] = f"/v1/models/{name}/versions/{version.version}"
    return version


@router.get("/{name}/versions/{version}", operation_id="get_model_version")
def get_model_version(name: Reference, version: Number, caller: Caller, services: Web) -> schemas.ModelVersion:
    """What a version takes, what it was made of, and how good it is."""
    with services.database.reader() as session:
        return registry.get_version(session, caller.project_id, name, version)
