"""Inference about a version, named by its number or by an alias: async, without SQL or Pydantic in steady state."""

import re
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.access.quotas import check_request_rows
from service.inference import schemas, streaming
from service.inference.batcher import Answered
from service.inference.calls import Answer, Call, CallRoute, by_alias, by_number
from service.inference.category_names import named
from service.inference.fields import Body
from service.inference.payload import Limits, Rows, check_size, parse_rows, parse_targets, shaped
from service.inference.questions import Question, Version
from service.shared.errors import BadInput, Fault

MOST_DRAWS = 1000
MOST_SEED = 2**53 - 1
MOST_STEPS = 2**20


async def encode(call: Call) -> Response:
    """Latent codes of samples that have any subset of the modalities.

    A sequence may come in pieces: with `"state": null` in the first request the answer carries a `state`, which the
    next one sends along.
    """
    body = Body(await call.request.body(), {"inputs", "state", "timeout_seconds"})
    rows = _rows(body, call, 1)
    state = _state(body, call, rows)
    asked = Question(call.version, "encode", goes_on=state is not None)
    answered = await call.ask(asked, rows, state, body.seconds("timeout_seconds"))
    goes_on = answered.tree.pop("state", None)
    told = shaped(answered.tree, rows.lengths) | _next(body, call, goes_on)
    return _answer(call, told, answered)


async def reconstruct(call: Call) -> Response:
    """Predict modalities from any subset of them: fills in what is missing, and generates one from another.

    `state` is that of an `encode` of the sequences' earlier steps.
    """
    body = Body(await call.request.body(), {"inputs", "targets", "n_samples", "seed", "state", "timeout_seconds"})
    targets = parse_targets(body.get("targets"), call.version.config)
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    rows = _rows(body, call, max(n_samples, 1))
    state = _state(body, call, rows)
    drawn = {"targets": targets, "n_samples": n_samples, "seed": seed if n_samples else 0}
    asked = Question(call.version, "reconstruct", drawn, state is not None)
    answered = await call.ask(asked, rows, state, body.seconds("timeout_seconds"))
    return _answer(call, {"outputs": shaped(named(answered.tree, call.version.config), rows.lengths)}, answered)


async def score(call: Call) -> Response:
    """How likely the model finds what was observed, as a bound on its log-probability: low is unusual."""
    body = Body(await call.request.body(), {"inputs", "n_samples", "seed", "timeout_seconds"})
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    rows = _rows(body, call, max(n_samples, 1))
    asked = Question(call.version, "score", {"n_samples": n_samples, "seed": seed if n_samples else 0})
    answered = await call.ask(asked, rows, None, body.seconds("timeout_seconds"))
    each = answered.tree["log_likelihood"]
    answered.tree["log_likelihood"] = {name: each[name] for name in rows.values}  # others are of others' rows
    return _answer(call, shaped(answered.tree, rows.lengths), answered)


async def forecast(call: Call) -> Response:
    """The steps that follow sequences, with quantiles of drawn paths. `state` is that of an `encode` before."""
    fields = {"inputs", "targets", "horizon", "n_samples", "seed", "quantiles", "state", "timeout_seconds"}
    body = Body(await call.request.body(), fields)
    _refuse_samples(call.version)
    targets = parse_targets(body.get("targets"), call.version.config)
    horizon = body.integer("horizon", 1, MOST_STEPS, least=1)
    n_samples, seed = body.integer("n_samples", 100, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    quantiles = body.fractions("quantiles", [0.05, 0.5, 0.95])
    rows = _rows(body, call, max(n_samples, 1))
    check_size(rows.count, horizon, _limits(call, max(n_samples, 1)), "/horizon")
    state = _state(body, call, rows)
    drawn = {"horizon": horizon, "targets": targets, "n_samples": n_samples, "quantiles": quantiles}
    drawn["seed"] = seed if n_samples else 0
    asked = Question(call.version, "forecast", drawn, state is not None)
    answered = await call.ask(asked, rows, state, body.seconds("timeout_seconds"))
    return _answer(call, {"outputs": shaped(named(answered.tree, call.version.config), None)}, answered)


async def sample(call: Call) -> Response:
    """Draws of all modalities together, from the prior."""
    body = Body(await call.request.body(), {"rows", "steps", "seed", "timeout_seconds"})
    most = call.services.settings.inference_rows
    count, seed = body.integer("rows", 1, most, least=1), body.integer("seed", 0, MOST_SEED)
    steps = body.integer("steps", 0, MOST_STEPS)
    sequences = call.version.config.kind == "sequence"
    if sequences != bool(steps):
        expected = "a number of time steps, at least 1" if sequences else "none: the model is of samples, not sequences"
        raise BadInput([Fault("/steps", "bad_steps", f"steps is {steps}, expected {expected}")])
    check_request_rows(count, call.caller.quotas.request_rows)
    check_size(count, steps or 1, _limits(call, 1), "/rows")
    asked = Question(call.version, "sample", {"steps": steps or None, "seed": seed})
    answered = await call.ask(asked, Rows(count, {}, {}, None), None, body.seconds("timeout_seconds"))
    return _answer(call, {"outputs": shaped(named(answered.tree, call.version.config), None)}, answered)


def _rows(body: Body, call: Call, draws: int) -> Rows:
    rows = parse_rows(body.get("inputs"), call.version.config, _limits(call, draws))
    check_request_rows(rows.count, call.caller.quotas.request_rows)
    return rows


def _limits(call: Call, draws: int) -> Limits:
    settings = call.services.settings
    return Limits(settings.inference_rows, settings.inference_steps, draws)


def _refuse_samples(version: Version) -> None:
    if version.config.kind != "sequence":
        detail = f"{version.model!r} is a model of samples, which have no time steps; expected a model of sequences"
        raise BadInput([Fault("", "not_a_sequence_model", detail)])


def _state(body: Body, call: Call, rows: Rows) -> Any:
    if "state" in body:
        _refuse_samples(call.version)
        if getattr(call.version.config, "inference", None) == "smooth":
            detail = "the model looks at each sequence as a whole, and cannot take it in pieces"
            raise BadInput([Fault("/state", "whole_sequences_only", detail)])
    return streaming.unpack(call.services.signer, call.version, body.get("state"), rows.count)


def _next(body: Body, call: Call, state: Any) -> dict[str, str]:
    """What the next piece goes on from, for those who have asked for it."""
    if "state" not in body or state is None:
        return {}
    return {"state": streaming.pack(call.services.signer, call.version, state)}


def _answer(call: Call, answer: dict[str, Any], answered: Answered) -> Response:
    version = call.version
    request_id = call.request.scope["request_id"]
    named = {"model": version.model, "version": version.number, "request_id": request_id, **answer}
    content = orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, headers={"Server-Timing": timing(answered)}, media_type="application/json")


def timing(answered: Answered) -> str:
    """Where the time of an answer went, as the Server-Timing header says it."""
    queue, batch, compute = (
        seconds * 1e3 for seconds in (answered.queue_seconds, answered.batch_seconds, answered.compute_seconds)
    )
    rows = answered.batch_rows
    return f'queue;dur={queue:.3f}, batch;dur={batch:.3f};desc="{rows} rows", compute;dur={compute:.3f}'


class Operation(NamedTuple):
    """An operation of a version, and what stands about it in the OpenAPI document."""

    answer: Answer
    body: type[BaseModel]
    answered_by: type[BaseModel]


OPERATIONS = (
    Operation(encode, schemas.StreamedRequest, schemas.EncodeResponse),
    Operation(reconstruct, schemas.ReconstructRequest, schemas.ReconstructResponse),
    Operation(score, schemas.ScoreRequest, schemas.ScoreResponse),
    Operation(forecast, schemas.ForecastRequest, schemas.ForecastResponse),
    Operation(sample, schemas.SampleRequest, schemas.SampleResponse),
)
_NAMES = {operation.answer.__name__ for operation in OPERATIONS}


_PATH = re.compile("/v1/models/[^/]+/(versions|aliases)/[^/]+/[a-z]+")


def takes_rows(path: str) -> bool:
    """Whether a path is that of an operation, whose body may be as large as its rows."""
    return _PATH.fullmatch(path) is not None and path.rpartition("/")[2] in _NAMES


def _router() -> APIRouter:
    """Every operation twice: of a version by its number, and by an alias."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["inference"], route_class=CallRoute)
    for operation in OPERATIONS:
        name = operation.answer.__name__
        described: dict[str, Any] = {
            "methods": ["POST"],
            "response_model": operation.answered_by,
            "description": operation.answer.__doc__,
            "openapi_extra": _documented(operation.body),
        }
        numbered, aliased = by_number(operation.answer), by_alias(operation.answer)
        router.add_api_route(f"/versions/{{version}}/{name}", numbered, operation_id=name, **described)
        router.add_api_route(f"/aliases/{{alias}}/{name}", aliased, operation_id=f"{name}_by_alias", **described)
    return router


def _documented(body: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that reads it raw."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}


router = _router()
