"""/v2: health, metadata, statistics and the repository. A path names a version by its number or an alias."""

import json
from collections.abc import Sequence
from importlib.metadata import version as installed
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.http.error_responses import STORED_FILE, errors
from service.open_inference import metadata, schemas
from service.open_inference.dependencies import ByVersion, Compute, Counted, Default
from service.registry import operations as registry
from service.shared import json_documents
from service.shared.errors import BadInput, Fault

health = APIRouter(prefix="/v2/health", tags=["operations"])
router = APIRouter(prefix="/v2", tags=["inference"], route_class=AuthenticatedRoute)
administration = APIRouter(prefix="/v2/repository", tags=["administration"], route_class=AuthenticatedRoute)

MODEL = "/models/{name}"
VERSION = "/models/{name}/versions/{version}"

UNLOAD = "unload_dependents"
"""A parameter that clients send with every unload. It has no effect: no model depends on another."""


@health.get(
    "/live", operation_id="v2_live", response_model=schemas.Live, summary="Check that the process is alive (v2)"
)
async def live() -> dict[str, bool]:
    """Whether the process is alive."""
    return {"live": True}


@health.get(
    "/ready",
    operation_id="v2_ready",
    response_model=schemas.Ready,
    summary="Check that requests can be served (v2)",
    responses=errors("database_unavailable"),
)
def ready(services: Web) -> dict[str, bool]:
    """Whether the database answers, so that requests can be served."""
    with services.database.reader() as session:
        session.execute(select(1))
    return {"ready": True}


@router.get("/", include_in_schema=False)
@router.get("", operation_id="v2_server", response_model=schemas.ServerMetadata, summary="Get metadata of the server")
async def server() -> dict[str, Any]:
    """The server, and the extensions of the protocol that it has."""
    return metadata.of_server(installed("sensorium"))


@router.get(
    "/models/stats",
    operation_id="v2_statistics",
    response_model=schemas.StatisticsAnswer,
    summary="Get statistics of all versions",
)
async def statistics(counted: Counted, caller: Caller) -> dict[str, Any]:
    """The requests to this process for the project's versions, and where their time went."""
    return counted.summary(caller.project_id)


@router.get(
    MODEL,
    operation_id="v2_model",
    response_model=schemas.ModelMetadata,
    summary="Get metadata of a model",
    responses=errors("model_version_not_found"),
)
async def model(served: Default) -> dict[str, Any]:
    """Inputs and outputs of a model's `production` version, else of its newest. All inputs are optional."""
    return metadata.of_version(served)


@router.get(
    VERSION,
    operation_id="v2_version",
    response_model=schemas.ModelMetadata,
    summary="Get metadata of a version",
    responses=errors("alias_not_found", "model_version_not_found"),
)
async def version(served: ByVersion) -> dict[str, Any]:
    """Inputs and outputs of a version."""
    return metadata.of_version(served)


@router.get(
    MODEL + "/ready",
    operation_id="v2_model_ready",
    response_model=schemas.ModelReady,
    summary="Check that a model can be used",
    responses=errors("model_version_not_found"),
)
async def model_ready(served: Default) -> dict[str, Any]:
    """Whether a model can be used."""
    return {"name": served.model, "ready": True}


@router.get(
    VERSION + "/ready",
    operation_id="v2_version_ready",
    response_model=schemas.ModelReady,
    summary="Check that a version can be used",
    responses=errors("alias_not_found", "model_version_not_found"),
)
async def version_ready(served: ByVersion) -> dict[str, Any]:
    """Whether a version can be used."""
    return {"name": served.model, "ready": True}


@router.get(
    MODEL + "/config",
    operation_id="v2_model_config",
    response_model=schemas.ModelConfiguration,
    summary="Get the configuration of a model",
    responses=errors("model_version_not_found"),
)
async def model_config(served: Default, services: Web) -> dict[str, Any]:
    """Configuration of a model's `production` version, else of its newest, in Triton's format."""
    return metadata.configuration(served, services.settings.inference_rows)


@router.get(
    VERSION + "/config",
    operation_id="v2_version_config",
    response_model=schemas.ModelConfiguration,
    summary="Get the configuration of a version",
    responses=errors("alias_not_found", "model_version_not_found"),
)
async def version_config(served: ByVersion, services: Web) -> dict[str, Any]:
    """Configuration of a version, in Triton's format."""
    return metadata.configuration(served, services.settings.inference_rows)


@router.get(
    MODEL + "/stats",
    operation_id="v2_model_statistics",
    response_model=schemas.StatisticsAnswer,
    summary="Get statistics of a model",
    responses=errors("model_version_not_found"),
)
async def model_statistics(served: Default, counted: Counted) -> dict[str, Any]:
    """Statistics of a model's `production` version, else of its newest."""
    return counted.summary(served.project_id, served)


@router.get(
    VERSION + "/stats",
    operation_id="v2_version_statistics",
    response_model=schemas.StatisticsAnswer,
    summary="Get statistics of a version",
    responses=errors("alias_not_found", "model_version_not_found"),
)
async def version_statistics(served: ByVersion, counted: Counted) -> dict[str, Any]:
    """Statistics of a version."""
    return counted.summary(served.project_id, served)


@router.post(
    "/repository/index",
    operation_id="v2_index",
    openapi_extra=schemas.IGNORED_BODY,
    response_model=list[schemas.IndexEntry],
    response_description="Every version of the project.",
    summary="List all versions for inference",
    responses=errors("body_too_large", "not_json"),
)
async def index(request: Request, caller: Caller, services: Web) -> list[dict[str, str]]:
    """Every version of the project, at most 10,000. All are ready: a version is loaded with its first request."""
    _check_ignored(await request.body())
    versions = await run_in_threadpool(_all_versions, services, caller.project_id)
    return [{"name": name, "version": str(number), "state": "READY", "reason": ""} for name, number in versions]


@administration.post(
    "/models/{name}/load",
    operation_id="v2_load",
    openapi_extra=schemas.IGNORED_BODY,
    response_model=schemas.Nothing,
    summary="Load a model into memory",
    responses=errors(*STORED_FILE, "body_too_large", "engine_out_of_memory", "model_version_not_found", "not_json"),
)
async def load(request: Request, served: Default, batcher: Compute) -> dict[str, Any]:
    """Load a model's version in this process and warm it up."""
    _check_ignored(await request.body())
    await batcher.load(served)
    return {}


@administration.post(
    "/models/{name}/unload",
    operation_id="v2_unload",
    openapi_extra=schemas.IGNORED_BODY,
    response_model=schemas.Nothing,
    summary="Unload a model from memory",
    responses=errors("body_too_large", "model_version_not_found", "not_json"),
)
async def unload(request: Request, served: Default, batcher: Compute) -> dict[str, Any]:
    """Free the memory of a model's version in this process. The next request loads it again."""
    _check_ignored(await request.body())
    await batcher.unload(served)
    return {}


def _all_versions(services: Services, project_id: str) -> Sequence[tuple[str, int]]:
    with services.database.reader() as session:
        return registry.all_versions(session, project_id)


def _check_ignored(body: bytes) -> None:
    """Check a body that has no effect: empty, or an object. Raises BadInput for unknown parameters."""
    if body:
        json_documents.check(body)
    document = json.loads(body) if body else {}
    if not isinstance(document, dict):
        raise BadInput([Fault("", "not_an_object", "the body is not an object, expected {} or an empty body")])
    parameters = {} if document.get("parameters") is None else document["parameters"]
    if not isinstance(parameters, dict) or set(document) - {"parameters", "ready"} or set(parameters) - {UNLOAD}:
        detail = (
            "parameters of a model configuration or of files came, expected none: models come from training and import"
        )
        raise BadInput([Fault("/parameters", "unknown_parameter", detail)])
