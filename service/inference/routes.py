"""Inference under /v1/models/{name}/versions/{version}: async, without SQL or Pydantic in steady state."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.access.quotas import check_request_rows
from service.inference.engine import Engine, Version
from service.inference.payload import MOST_FAULTS, Limits, parse_rows, parse_targets, shown
from service.inference.schemas import EncodeRequest, EncodeResponse, ReconstructRequest, ReconstructResponse
from service.inference.turns import Turns
from service.inference.versions import VersionCache
from service.keyed import KeyedRoute
from service.shared.errors import BadInput, Fault, pointer
from service.shared.names import Reference
from service.web import Caller, Services, Web

router = APIRouter(prefix="/v1/models/{name}/versions/{version}", tags=["inference"], route_class=KeyedRoute)


async def _version(
    request: Request, caller: Caller, name: Reference, version: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> Version:
    versions: VersionCache = request.app.state.versions
    if known := versions.known(caller.project_id, name, version):
        return known
    return await run_in_threadpool(versions.look_up, caller.project_id, name, version)


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _turns(request: Request) -> Turns:
    turns: Turns = request.app.state.turns
    return turns


Served = Annotated[Version, Depends(_version)]
Compute = Annotated[Engine, Depends(_engine)]
Queue = Annotated[Turns, Depends(_turns)]


def _documented(body: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that reads it raw."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}


@router.post(
    "/encode",
    operation_id="encode",
    response_model=EncodeResponse,
    openapi_extra=_documented(EncodeRequest),
)
async def encode(
    request: Request, version: Served, engine: Compute, turns: Queue, caller: Caller, services: Web
) -> Response:
    """Latent codes of samples that have any subset of the modalities."""
    body = _body(await request.body(), {"inputs"})
    rows = parse_rows(body.get("inputs"), version.config, _limits(services, 1))
    check_request_rows(rows.count, caller.quotas.request_rows)
    latent = await turns.take(engine.encode, version, rows)
    return _answer(request, version, latent)


@router.post(
    "/reconstruct",
    operation_id="reconstruct",
    response_model=ReconstructResponse,
    openapi_extra=_documented(ReconstructRequest),
)
async def reconstruct(
    request: Request, version: Served, engine: Compute, turns: Queue, caller: Caller, services: Web
) -> Response:
    """Predict modalities from any subset of them: fills in what is missing, and generates one from another."""
    body = _body(await request.body(), {"inputs", "targets", "n_samples", "seed"})
    targets = parse_targets(body.get("targets"), version.config)
    n_samples = _integer(body, "n_samples", 1000)
    seed = _integer(body, "seed", 2**53 - 1)
    rows = parse_rows(body.get("inputs"), version.config, _limits(services, max(n_samples, 1)))
    check_request_rows(rows.count, caller.quotas.request_rows)
    outputs = await turns.take(engine.reconstruct, version, rows, targets, n_samples, seed)
    return _answer(request, version, {"outputs": outputs})


def _limits(services: Services, draws: int) -> Limits:
    return Limits(services.settings.inference_rows, services.settings.inference_steps, draws)


def _body(raw: bytes, fields: set[str]) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadInput([Fault("", "not_json", f"the body is not JSON: {error}")]) from error
    if not isinstance(body, dict):
        raise BadInput([Fault("", "not_an_object", f"the body is a {type(body).__name__}, expected an object")])
    if unknown := sorted(body.keys() - fields):
        expected = f"expected some of {sorted(fields)}"
        first = unknown[:MOST_FAULTS]
        raise BadInput([Fault(pointer(n), "unknown_field", f"unknown field {shown(n)}, {expected}") for n in first])
    return body


def _integer(body: dict[str, Any], name: str, most: int) -> int:
    value = body.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise BadInput(
            [Fault(f"/{name}", "bad_integer", f"{name} is {shown(value)}, expected an integer from 0 to {most}")]
        )
    return value


def _answer(request: Request, version: Version, answer: dict[str, Any]) -> Response:
    named = {"model": version.model, "version": version.number, "request_id": request.scope["request_id"], **answer}
    return Response(orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
