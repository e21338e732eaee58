"""Inference under /v1/models/{name}/versions/{version}: async, without SQL or Pydantic in steady state."""

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.access.operations import Principal
from service.access.quotas import check_request_rows
from service.inference import schemas, streaming
from service.inference.batcher import Answered, Batcher
from service.inference.engine import Engine
from service.inference.fields import Body
from service.inference.payload import Limits, Rows, check_size, parse_rows, parse_targets, shaped
from service.inference.questions import Question, Version
from service.inference.versions import VersionCache
from service.keyed import KeyedRoute
from service.shared.errors import BadInput, Fault
from service.shared.names import Reference
from service.web import Caller, Services, Web

router = APIRouter(prefix="/v1/models/{name}/versions/{version}", tags=["inference"], route_class=KeyedRoute)

MOST_DRAWS = 1000
MOST_SEED = 2**53 - 1
MOST_STEPS = 2**20


async def _version(
    request: Request, caller: Caller, name: Reference, version: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> Version:
    versions: VersionCache = request.app.state.versions
    if known := versions.known(caller.project_id, name, version):
        return known
    return await run_in_threadpool(versions.look_up, caller.project_id, name, version)


async def _batcher(request: Request) -> Batcher:
    batcher: Batcher = request.app.state.batcher
    return batcher


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


Served = Annotated[Version, Depends(_version)]
Compute = Annotated[Batcher, Depends(_batcher)]
Direct = Annotated[Engine, Depends(_engine)]


def _documented(body: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that reads it raw."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}


@router.post(
    "/encode",
    operation_id="encode",
    response_model=schemas.EncodeResponse,
    openapi_extra=_documented(schemas.StreamedRequest),
)
async def encode(request: Request, version: Served, batcher: Compute, caller: Caller, services: Web) -> Response:
    """Latent codes of samples that have any subset of the modalities.

    A sequence may come in pieces: with `"state": null` in the first request the answer carries a `state`, which the
    next one sends along.
    """
    body = Body(await request.body(), {"inputs", "state", "timeout_seconds"})
    rows = _rows(body, version, caller, services, 1)
    state = _state(body, version, services, rows)
    asked = Question(version, "encode", goes_on=state is not None)
    answered = await batcher.ask(asked, rows, state, body.seconds("timeout_seconds"))
    goes_on = answered.tree.pop("state", None)
    told = shaped(answered.tree, rows.lengths) | _next(body, version, services, goes_on)
    return _answer(request, version, told, answered)


@router.post(
    "/reconstruct",
    operation_id="reconstruct",
    response_model=schemas.ReconstructResponse,
    openapi_extra=_documented(schemas.ReconstructRequest),
)
async def reconstruct(request: Request, version: Served, batcher: Compute, caller: Caller, services: Web) -> Response:
    """Predict modalities from any subset of them: fills in what is missing, and generates one from another.

    `state` is that of an `encode` of the sequences' earlier steps.
    """
    body = Body(await request.body(), {"inputs", "targets", "n_samples", "seed", "state", "timeout_seconds"})
    targets = parse_targets(body.get("targets"), version.config)
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    rows = _rows(body, version, caller, services, max(n_samples, 1))
    state = _state(body, version, services, rows)
    drawn = {"targets": targets, "n_samples": n_samples, "seed": seed}
    asked = Question(version, "reconstruct", drawn, state is not None)
    answered = await batcher.ask(asked, rows, state, body.seconds("timeout_seconds"))
    return _answer(request, version, {"outputs": shaped(answered.tree, rows.lengths)}, answered)


@router.post(
    "/score",
    operation_id="score",
    response_model=schemas.ScoreResponse,
    openapi_extra=_documented(schemas.ScoreRequest),
)
async def score(request: Request, version: Served, batcher: Compute, caller: Caller, services: Web) -> Response:
    """How likely the model finds what was observed, as a bound on its log-probability: low is unusual."""
    body = Body(await request.body(), {"inputs", "n_samples", "seed", "timeout_seconds"})
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    rows = _rows(body, version, caller, services, max(n_samples, 1))
    asked = Question(version, "score", {"n_samples": n_samples, "seed": seed})
    answered = await batcher.ask(asked, rows, None, body.seconds("timeout_seconds"))
    each = answered.tree["log_likelihood"]
    answered.tree["log_likelihood"] = {name: each[name] for name in rows.values}  # others are of others' rows
    return _answer(request, version, shaped(answered.tree, rows.lengths), answered)


@router.post(
    "/forecast",
    operation_id="forecast",
    response_model=schemas.ForecastResponse,
    openapi_extra=_documented(schemas.ForecastRequest),
)
async def forecast(request: Request, version: Served, batcher: Compute, caller: Caller, services: Web) -> Response:
    """The steps that follow sequences, with quantiles of drawn paths. `state` is that of an `encode` before."""
    fields = {"inputs", "targets", "horizon", "n_samples", "seed", "quantiles", "state", "timeout_seconds"}
    body = Body(await request.body(), fields)
    _refuse_samples(version)
    targets = parse_targets(body.get("targets"), version.config)
    horizon = body.integer("horizon", 1, MOST_STEPS, least=1)
    n_samples, seed = body.integer("n_samples", 100, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    quantiles = body.fractions("quantiles", [0.05, 0.5, 0.95])
    rows = _rows(body, version, caller, services, max(n_samples, 1))
    check_size(rows.count, horizon, _limits(services, max(n_samples, 1)), "/horizon")
    state = _state(body, version, services, rows)
    drawn = {"horizon": horizon, "targets": targets, "n_samples": n_samples, "seed": seed, "quantiles": quantiles}
    asked = Question(version, "forecast", drawn, state is not None)
    answered = await batcher.ask(asked, rows, state, body.seconds("timeout_seconds"))
    return _answer(request, version, {"outputs": shaped(answered.tree, None)}, answered)


@router.post(
    "/sample",
    operation_id="sample",
    response_model=schemas.SampleResponse,
    openapi_extra=_documented(schemas.SampleRequest),
)
async def sample(
    request: Request, version: Served, batcher: Compute, engine: Direct, caller: Caller, services: Web
) -> Response:
    """Draws of all modalities together, from the prior."""
    body = Body(await request.body(), {"rows", "steps", "seed"})
    count, seed = body.integer("rows", 1, services.settings.inference_rows, least=1), body.integer("seed", 0, MOST_SEED)
    steps = body.integer("steps", 0, MOST_STEPS)
    sequences = version.config.kind == "sequence"
    if sequences != bool(steps):
        expected = "a number of time steps, at least 1" if sequences else "none: the model is of samples, not sequences"
        raise BadInput([Fault("/steps", "bad_steps", f"steps is {steps}, expected {expected}")])
    check_request_rows(count, caller.quotas.request_rows)
    check_size(count, steps or 1, _limits(services, 1), "/rows")
    outputs = await batcher.alone(partial(engine.sample, version, count, steps or None, seed))
    return _answer(request, version, {"outputs": shaped(outputs, None)})


def _rows(body: Body, version: Version, caller: Principal, services: Services, draws: int) -> Rows:
    rows = parse_rows(body.get("inputs"), version.config, _limits(services, draws))
    check_request_rows(rows.count, caller.quotas.request_rows)
    return rows


def _limits(services: Services, draws: int) -> Limits:
    return Limits(services.settings.inference_rows, services.settings.inference_steps, draws)


def _refuse_samples(version: Version) -> None:
    if version.config.kind != "sequence":
        detail = f"{version.model!r} is a model of samples, which have no time steps; expected a model of sequences"
        raise BadInput([Fault("", "not_a_sequence_model", detail)])


def _state(body: Body, version: Version, services: Services, rows: Rows) -> Any:
    if "state" in body:
        _refuse_samples(version)
        if getattr(version.config, "smoother", None) is not None:
            detail = "the model looks at each sequence as a whole, and cannot take it in pieces"
            raise BadInput([Fault("/state", "whole_sequences_only", detail)])
    return streaming.unpack(services.signer, version, body.get("state"), rows.count)


def _next(body: Body, version: Version, services: Services, state: Any) -> dict[str, str]:
    """What the next piece goes on from, for those who have asked for it."""
    if "state" not in body or state is None:
        return {}
    return {"state": streaming.pack(services.signer, version, state)}


def _answer(request: Request, version: Version, answer: dict[str, Any], answered: Answered | None = None) -> Response:
    named = {"model": version.model, "version": version.number, "request_id": request.scope["request_id"], **answer}
    content = orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY)
    timing = {} if answered is None else {"Server-Timing": _timing(answered)}
    return Response(content, headers=timing, media_type="application/json")


def _timing(answered: Answered) -> str:
    queue, compute = answered.queue_seconds * 1e3, answered.compute_seconds * 1e3
    return f'queue;dur={queue:.3f}, compute;dur={compute:.3f}, batch;desc="{answered.batch_rows} rows"'
