"""/v1/models/…/encode, reconstruct, impute, score, forecast and sample, with a version by its number or an alias."""

import re
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from service.http.dependencies import PRINCIPAL
from service.http.error_responses import INFERENCE
from service.http.parted_response import parted_response
from service.http.protocol import IS_GONE
from service.http.starlette_route import PostRoute
from service.inference import decoding, encoding, queries, schemas
from service.inference.answering import InferenceService
from service.inference.decoding import ModelContext
from service.registry.schemas import AliasName
from service.shared.resource_names import Reference

MAX_VERSION = 2**31 - 1
_PATH = re.compile("/v1/models/[^/]+/(versions|aliases)/[^/]+/([a-z]+)")


class ByNumber(BaseModel):
    """The path of a version by its number."""

    name: Reference
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]

    @property
    def reference(self) -> str:
        """How the version is looked up."""
        return str(self.version)


class ByAlias(BaseModel):
    """The path of the version that an alias names."""

    name: Reference
    alias: AliasName

    @property
    def reference(self) -> str:
        """How the version is looked up."""
        return self.alias


class Operation(NamedTuple):
    """An operation as the OpenAPI document describes it."""

    name: queries.Operation
    summary: str
    body: type[BaseModel]
    answer: type[BaseModel]
    description: str


OPERATIONS = (
    Operation(
        "encode",
        "Encode rows",
        schemas.EncodeRequest,
        schemas.EncodeResponse,
        "Latent codes of samples that have any subset of the modalities.\n\n"
        'A sequence may be sent in pieces: with `"state": null` in the first request the answer has a `state`, which '
        "the next request sends along.",
    ),
    Operation(
        "reconstruct",
        "Predict modalities from others",
        schemas.ReconstructRequest,
        schemas.ReconstructResponse,
        "Predict modalities from any subset of them: fill in what is missing, or generate one modality from another."
        "\n\n`state` is that of an `encode` of the earlier steps of the sequences.",
    ),
    Operation(
        "impute",
        "Fill in what is missing",
        schemas.ImputeRequest,
        schemas.ImputeResponse,
        "Complete samples or sequences: observed values stay as they were sent, and missing ones are predicted, "
        "numbers and counts with an interval. Whole modalities, single steps, beginnings and ends of sequences may be "
        "missing.\n\n"
        "With `draws` the answer also has that many joint completions of each row, from the distribution of everything "
        "that is missing given what is observed. The version needs a conditional part for them. The draws of a row "
        "depend on `seed` and on the place of the row in the request, and on no other request.",
    ),
    Operation(
        "score",
        "Score rows",
        schemas.ScoreRequest,
        schemas.ScoreResponse,
        "How likely the observed values are under the model: a lower bound of their log-probability. Low is unusual.",
    ),
    Operation(
        "forecast",
        "Forecast sequences",
        schemas.ForecastRequest,
        schemas.ForecastResponse,
        "The next steps of sequences, with quantiles of drawn paths. `state` is that of an `encode` of earlier steps.",
    ),
    Operation(
        "sample",
        "Draw rows from a model",
        schemas.SampleRequest,
        schemas.SampleResponse,
        "Joint draws of all modalities from the prior.",
    ),
)
OF_FIELDS = (("draws", "no_conditional"), ("inputs", "rows_too_large"), ("state", "invalid_state"))
"""Errors that a field of the body can have."""
_TAKES_ROWS = {operation.name for operation in OPERATIONS if "inputs" in operation.body.model_fields}


def takes_rows(path: str) -> bool:
    """Whether a path is that of an operation on rows, whose body may be large."""
    match = _PATH.fullmatch(path)
    return match is not None and match[2] in _TAKES_ROWS


async def _answer(operation: queries.Operation, request: Request, path: ByNumber | ByAlias) -> Response:
    state, caller = request.app.state, request.scope[PRINCIPAL]
    version = await state.versions.find(caller.project_id, path.name, path.reference)
    context = ModelContext.of(version, state.services.settings)
    query = await decoding.decode(state.reading, operation, await request.body(), context)
    inference: InferenceService = state.inference
    answered = await inference.answer(version, query, caller.quotas.request_rows, request.scope.get(IS_GONE))
    headers = {"Server-Timing": answered.server_timing()}
    about = {"model": version.model, "version": version.number, "request_id": request.scope["request_id"]}
    if encoding.numbers(answered.tree) < encoding.LARGE_NUMBERS:
        content = encoding.to_json(about | encoding.body(query, version, answered))
        return Response(content, headers=headers, media_type="application/json")
    parts = await run_in_threadpool(lambda: encoding.to_json_parts(about | encoding.body(query, version, answered)))
    return parted_response(parts, {**headers, "Content-Type": "application/json"})


ROUTES = [
    PostRoute(
        f"/v1/models/{{name}}/{path}/{operation.name}",
        operation.name + suffix,
        partial(_answer, operation.name),
        path_parameters,
        tag="inference",
        summary=operation.summary + suffix.replace("_", " "),
        description=operation.description,
        body=operation.body,
        content={"application/json": operation.answer},
        headers=("Server-Timing",),
        errors=(*INFERENCE, *errors, *(code for field, code in OF_FIELDS if field in operation.body.model_fields)),
    )
    for operation in OPERATIONS
    for path, suffix, path_parameters, errors in (
        ("versions/{version}", "", ByNumber, ("model_version_not_found",)),
        ("aliases/{alias}", "_by_alias", ByAlias, ("alias_not_found",)),
    )
]
