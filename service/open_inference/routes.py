"""/v2: health, metadata, statistics and the repository. A version is named by its number or by an alias."""

import json
from collections.abc import Sequence
from importlib.metadata import version as installed
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from service.http.authenticated_route import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.open_inference import metadata
from service.open_inference.calls import ByVersion, Compute, Counted, Default
from service.registry import operations as registry
from service.shared import json_documents
from service.shared.errors import BadInput, Fault

health = APIRouter(prefix="/v2/health", tags=["operations"])
router = APIRouter(prefix="/v2", tags=["inference"], route_class=AuthenticatedRoute)
administration = APIRouter(prefix="/v2/repository", tags=["administration"], route_class=AuthenticatedRoute)

MODEL = "/models/{name}"
VERSION = "/models/{name}/versions/{version}"

UNLOAD = "unload_dependents"
"""What clients send along with every unload; no model of ours depends on another."""


@health.get("/live", operation_id="v2_live")
async def live() -> dict[str, bool]:
    """Whether the process lives."""
    return {"live": True}


@health.get("/ready", operation_id="v2_ready")
def ready(services: Web) -> dict[str, bool]:
    """Whether requests can be served: the database answers."""
    with services.database.reader() as session:
        session.execute(select(1))
    return {"ready": True}


@router.get("/", include_in_schema=False)
@router.get("", operation_id="v2_server")
async def server() -> dict[str, Any]:
    """What speaks here, and which extensions of the protocol it has."""
    return metadata.of_server(installed("sensorium"))


@router.get("/models/stats", operation_id="v2_statistics")
async def statistics(counted: Counted, caller: Caller) -> dict[str, Any]:
    """How often this process was asked about the project's versions, and where the time went."""
    return counted.shown(caller.project_id)


@router.get(MODEL, operation_id="v2_model")
async def model(served: Default) -> dict[str, Any]:
    """Inputs and outputs of a model's `production` version, else of its newest. All inputs are optional."""
    return metadata.of_version(served)


@router.get(VERSION, operation_id="v2_version")
async def version(served: ByVersion) -> dict[str, Any]:
    """Inputs and outputs of a version."""
    return metadata.of_version(served)


@router.get(MODEL + "/ready", operation_id="v2_model_ready")
async def model_ready(served: Default) -> dict[str, Any]:
    """Whether a model can be asked."""
    return {"name": served.model, "ready": True}


@router.get(VERSION + "/ready", operation_id="v2_version_ready")
async def version_ready(served: ByVersion) -> dict[str, Any]:
    """Whether a version can be asked."""
    return {"name": served.model, "ready": True}


@router.get(MODEL + "/config", operation_id="v2_model_config")
async def model_config(served: Default, services: Web) -> dict[str, Any]:
    """A model's configuration, as Triton has it."""
    return metadata.configuration(served, services.settings.inference_rows)


@router.get(VERSION + "/config", operation_id="v2_version_config")
async def version_config(served: ByVersion, services: Web) -> dict[str, Any]:
    """A version's configuration, as Triton has it."""
    return metadata.configuration(served, services.settings.inference_rows)


@router.get(MODEL + "/stats", operation_id="v2_model_statistics")
async def model_statistics(served: Default, counted: Counted) -> dict[str, Any]:
    """The same about one model."""
    return counted.shown(served.project_id, served)


@router.get(VERSION + "/stats", operation_id="v2_version_statistics")
async def version_statistics(served: ByVersion, counted: Counted) -> dict[str, Any]:
    """The same about one version."""
    return counted.shown(served.project_id, served)


@router.post("/repository/index", operation_id="v2_index")
async def index(request: Request, caller: Caller, services: Web) -> list[dict[str, str]]:
    """Every version of the project. All of them are ready: one that is not loaded is when it is asked."""
    _ignored(await request.body())
    found = await run_in_threadpool(_all_versions, services, caller.project_id)
    return [{"name": name, "version": str(number), "state": "READY", "reason": ""} for name, number in found]


@administration.post("/models/{name}/load", operation_id="v2_load")
async def load(request: Request, served: Default, batcher: Compute) -> dict[str, Any]:
    """Have a model's version loaded and warm in this process."""
    _ignored(await request.body())
    await batcher.load(served)
    return {}


@administration.post("/models/{name}/unload", operation_id="v2_unload")
async def unload(request: Request, served: Default, batcher: Compute) -> dict[str, Any]:
    """Free what a model's version takes in this process. It comes back when it is asked for."""
    _ignored(await request.body())
    await batcher.unload(served)
    return {}


def _all_versions(services: Services, project_id: str) -> Sequence[tuple[str, int]]:
    with services.database.reader() as session:
        return registry.all_versions(session, project_id)


def _ignored(body: bytes) -> None:
    """Read what these calls may bring: nothing, or an object. Raises BadInput for parameters that we do not have."""
    if body:
        json_documents.check(body)
    given = json.loads(body) if body else {}
    if not isinstance(given, dict):
        raise BadInput([Fault("", "not_an_object", "the body is no object, expected {} or nothing")])
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict) or set(given) - {"parameters", "ready"} or set(parameters) - {UNLOAD}:
        detail = "models come from training and import alone, not from a configuration or files in this call"
        raise BadInput([Fault("/parameters", "unknown_parameter", detail)])
