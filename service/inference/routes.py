"""Inference about a version, named by its number or by an alias: async, without SQL or Pydantic in steady state."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.inference import responses, schemas
from service.inference.batcher import Answered
from service.inference.calls import Answer, Call, CallRoute, by_alias, by_number
from service.inference.category_names import named
from service.inference.payload import shaped


async def encode(call: Call) -> Response:
    """Latent codes of samples that have any subset of the modalities.

    A sequence may come in pieces: with `"state": null` in the first request the answer carries a `state`, which the
    next one sends along.
    """
    asked = await call.read("encode")
    answered = await call.ask(asked)
    goes_on = answered.tree.pop("state", None)
    state = {"state": await call.packed(goes_on)} if asked.streams and goes_on is not None else {}
    return await _answer(call, answered, lambda: shaped(answered.tree, asked.rows.lengths) | state)


async def reconstruct(call: Call) -> Response:
    """Predict modalities from any subset of them: fills in what is missing, and generates one from another.

    `state` is that of an `encode` of the sequences' earlier steps.
    """
    asked = await call.read("reconstruct")
    answered = await call.ask(asked)
    return await _answer(
        call, answered, lambda: {"outputs": shaped(named(answered.tree, call.version.config), asked.rows.lengths)}
    )


async def score(call: Call) -> Response:
    """How likely the model finds what was observed, as a bound on its log-probability: low is unusual."""
    asked = await call.read("score")
    answered = await call.ask(asked)
    each = answered.tree["log_likelihood"]
    answered.tree["log_likelihood"] = {name: each[name] for name in asked.rows.values}  # others are of others' rows
    return await _answer(call, answered, lambda: shaped(answered.tree, asked.rows.lengths))


async def forecast(call: Call) -> Response:
    """The steps that follow sequences, with quantiles of drawn paths. `state` is that of an `encode` before."""
    answered = await call.ask(await call.read("forecast"))
    return await _answer(call, answered, lambda: {"outputs": shaped(named(answered.tree, call.version.config), None)})


async def sample(call: Call) -> Response:
    """Draws of all modalities together, from the prior."""
    answered = await call.ask(await call.read("sample"))
    return await _answer(call, answered, lambda: {"outputs": shaped(named(answered.tree, call.version.config), None)})


async def _answer(call: Call, answered: Answered, told: Callable[[], dict[str, Any]]) -> Response:
    version = call.version
    whose = {"model": version.model, "version": version.number, "request_id": call.request.scope["request_id"]}
    return await responses.response(answered.tree, lambda: whose | told(), {"Server-Timing": timing(answered)})


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
_OF_ROWS = {operation.answer.__name__ for operation in OPERATIONS if "inputs" in operation.body.model_fields}


_PATH = re.compile("/v1/models/[^/]+/(versions|aliases)/[^/]+/[a-z]+")


def takes_rows(path: str) -> bool:
    """Whether a path is that of an operation on rows, whose body may be as large as those."""
    return _PATH.fullmatch(path) is not None and path.rpartition("/")[2] in _OF_ROWS


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
