"""/v2/models/…/infer: tensors in JSON or binary, of any subset of the modalities."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.access.operations import Principal
from service.http.dependencies import PRINCIPAL
from service.http.error_responses import INFERENCE
from service.http.parted_response import parted_response
from service.http.protocol import IS_GONE
from service.http.starlette_route import PostRoute
from service.inference import encoding
from service.inference.answering import InferenceService
from service.inference.batcher import Answered
from service.inference.decoding import ModelContext
from service.inference.queries import Version
from service.open_inference import framing, request_decoding, schemas
from service.open_inference.answer_encoding import encode
from service.open_inference.request_decoding import InferRequest
from service.open_inference.statistics import Statistics
from service.shared.resource_names import Reference


class ByName(BaseModel):
    """The path of a model: its version `production`, else the newest."""

    name: Reference


class ByVersion(BaseModel):
    """The path of a version, by its number or an alias."""

    name: Reference
    version: Reference


def takes_encoded(path: str) -> bool:
    """Whether the body of a request may be compressed."""
    return path.startswith("/v2/models/") and path.endswith("/infer")


async def _infer(request: Request, path: ByName | ByVersion) -> Response:
    caller: Principal = request.scope[PRINCIPAL]
    reference = path.version if isinstance(path, ByVersion) else ""
    version: Version = await request.app.state.versions.find(caller.project_id, path.name, reference)
    statistics: Statistics = request.app.state.statistics
    started_at = time.monotonic()
    try:
        return await _answer(request, version, caller, statistics)
    except Exception:
        statistics.failed(version, time.monotonic() - started_at)
        raise


async def _answer(request: Request, version: Version, caller: Principal, statistics: Statistics) -> Response:
    started_at = time.monotonic()
    state = request.app.state
    settings = state.services.settings
    body, content_encoding = await request.body(), request.headers.get("content-encoding")
    if content_encoding is not None:  # in a thread: a short body may decompress to many megabytes
        body = await run_in_threadpool(framing.decompressed, body, content_encoding, settings.request_bytes)
    head_length = request.headers.get(framing.HEAD_LENGTH)
    parsed = await request_decoding.decode(state.reading, body, head_length, ModelContext.of(version, settings))
    decoded_at = time.monotonic()
    inference: InferenceService = state.inference
    max_rows, is_gone = caller.quotas.request_rows, request.scope.get(IS_GONE)
    queries = parsed.queries()
    answers = await asyncio.gather(*(inference.answer(version, query, max_rows, is_gone) for query in queries))
    computed_at = time.monotonic()
    trees = {query.operation: answered.tree for query, answered in zip(queries, answers, strict=True)}
    is_large = sum(map(encoding.numbers, trees.values())) >= encoding.LARGE_NUMBERS
    if is_large:
        parts, headers = await run_in_threadpool(encode, version, parsed, trees, True)
    else:
        parts, headers = encode(version, parsed, trees, False)
    answer_encoding = framing.answer_encoding(request.headers.get("accept-encoding"), sum(map(len, parts)))
    if answer_encoding is not None:
        parts = [await run_in_threadpool(framing.compressed, parts, answer_encoding)]
        headers["Content-Encoding"] = answer_encoding
    headers["Server-Timing"] = answers[-1].server_timing()
    _count(statistics, version, parsed, answers, (started_at, decoded_at, computed_at))
    return parted_response(parts, headers) if len(parts) > 1 else Response(parts[0], headers=headers)


def _count(
    statistics: Statistics,
    version: Version,
    parsed: InferRequest,
    answers: Sequence[Answered],
    times: tuple[float, float, float],
) -> None:
    started_at, decoded_at, computed_at = times
    now = time.monotonic()
    seconds = {
        "success": now - started_at,
        "queue": max(answered.queue_seconds for answered in answers),
        "compute_input": decoded_at - started_at,
        "compute_infer": max(answered.compute_seconds for answered in answers),
        "compute_output": now - computed_at,
    }
    statistics.succeeded(version, parsed.rows.count, seconds)


DESCRIPTION = (
    "Codes, predictions and completions by a model's `production` version, else its newest. A missing modality is left "
    "out.\n\n"
    "Outputs: `latent_mean`, `latent_logvar`, `recon.NAME` of any modality, `impute.NAME` of one that is missing "
    "somewhere, and `calibration`. `mask.NAME` says where a modality is present. Parameters: `n_samples` for "
    "`recon.NAME`, `draws` and `level` for `impute.NAME`, `seed`, and `timeout` in microseconds."
)
ERRORS = (*INFERENCE, "no_conditional", "rows_too_large", "unsupported_content_encoding")
HEADERS = ("Content-Encoding", "Inference-Header-Content-Length", "Server-Timing")
ROUTES: list[PostRoute[ByName] | PostRoute[ByVersion]] = [
    PostRoute(
        "/v2/models/{name}/infer",
        "v2_infer",
        _infer,
        ByName,
        errors=(*ERRORS, "model_version_not_found"),
        headers=HEADERS,
        summary="Infer with a model",
        description=DESCRIPTION,
        **schemas.INFER,
    ),
    PostRoute(
        "/v2/models/{name}/versions/{version}/infer",
        "v2_infer_version",
        _infer,
        ByVersion,
        errors=(*ERRORS, "alias_not_found", "model_version_not_found"),
        headers=HEADERS,
        summary="Infer with a version",
        description="Codes, predictions and completions by a version, named by its number or an alias.",
        **schemas.INFER,
    ),
]
