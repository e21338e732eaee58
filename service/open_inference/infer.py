"""/v2/models/…/infer: tensors in JSON or binary, of any subset of the modalities."""

import asyncio
import time

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.access.quotas import check_request_rows
from service.http.dependencies import PRINCIPAL
from service.inference import responses, sizes, writing
from service.inference.batcher import Answered
from service.inference.calls import CallRoute, check_name, is_gone
from service.inference.category_names import named
from service.inference.payload import Rows
from service.inference.questions import Question, Version
from service.inference.reading import About
from service.inference.routes import timing
from service.open_inference import framing, reading, schemas
from service.open_inference.calls import served_version
from service.open_inference.outputs import Outputs, tensors
from service.open_inference.parameters import Parameters
from service.open_inference.tensors import trimmed
from service.shared.resource_names import Reference


class InferRoute(CallRoute):
    """Takes any reference to a version: a number or an alias."""

    def check(self, path: dict[str, str]) -> None:
        """Raise BadInput for what refers to nothing."""
        check_name(path, "version")


router = APIRouter(prefix="/v2/models/{name}", tags=["inference"], route_class=InferRoute)


def takes_encoded(path: str) -> bool:
    """Whether the body of a call may be compressed."""
    return path.startswith("/v2/models/") and path.endswith("/infer")


@router.post("/infer", operation_id="v2_infer", **schemas.INFER)
async def infer(request: Request, name: Reference) -> Response:
    """Codes and predictions of a model's `production` version, else of its newest. A missing modality is left out.

    Outputs: `latent_mean`, `latent_logvar`, and `recon.NAME` of any modality. `mask.NAME` says where a modality is
    given. Parameters: `n_samples`, `seed`, and `timeout` in microseconds.
    """
    return await _infer(request, await served_version(request, name))


@router.post("/versions/{version}/infer", operation_id="v2_infer_version", **schemas.INFER)
async def infer_version(request: Request, name: Reference, version: Reference) -> Response:
    """The same of a version, named by its number or an alias."""
    return await _infer(request, await served_version(request, name, version))


async def _infer(request: Request, served: Version) -> Response:
    began_at = time.monotonic()
    try:
        return await _answered(request, served, began_at)
    except Exception:
        request.app.state.statistics.failed(served, time.monotonic() - began_at)
        raise


async def _answered(request: Request, served: Version, began_at: float) -> Response:
    settings, caller = request.app.state.services.settings, request.scope[PRINCIPAL]
    body, packed_as = await request.body(), request.headers.get("content-encoding")
    if packed_as is not None:  # not in the event loop: megabytes of zeros take long
        body = await run_in_threadpool(framing.unpacked, body, packed_as, settings.request_bytes)
    about = About(served.model, served.config, settings.inference_rows, settings.inference_steps)
    head_length = request.headers.get(framing.HEAD_LENGTH)
    parameters, outputs, rows = await reading.read(request.app.state.reading, body, head_length, about)
    check_request_rows(rows.count, caller.quotas.request_rows)
    asked = trimmed(rows)
    read_at = time.monotonic()
    questions = _questions(served, outputs, parameters)
    found = await asyncio.gather(*(_ask(request, served, question, asked, parameters) for question in questions))
    computed_at = time.monotonic()
    whose = {"model_name": served.model, "model_version": str(served.number)}
    if parameters.id:
        whose["id"] = parameters.id
    codes, predicted = found[0].tree if outputs.codes else {}, found[-1].tree if outputs.targets else {}
    large = writing.numbers(codes) + writing.numbers(predicted) >= writing.LARGE_NUMBERS

    def written() -> tuple[list[bytes], dict[str, str]]:
        described, raw = tensors(outputs, rows, codes, named(predicted, served.config))
        return framing.joined({**whose, "outputs": described}, raw, large)

    parts, headers = await run_in_threadpool(written) if large else written()
    answer_encoding = framing.answer_encoding(request.headers.get("accept-encoding"), sum(map(len, parts)))
    if answer_encoding is not None:
        parts = [await run_in_threadpool(framing.packed, parts, answer_encoding)]
        headers["Content-Encoding"] = answer_encoding
    headers["Server-Timing"] = timing(found[-1])
    _count(request, served, rows, found, (began_at, read_at, computed_at))
    return responses.large(parts, headers) if len(parts) > 1 else Response(parts[0], headers=headers)


def _questions(served: Version, outputs: Outputs, parameters: Parameters) -> list[Question]:
    questions = [Question(served, "encode")] if outputs.codes else []
    if outputs.targets:
        drawn = {"targets": outputs.targets, "n_samples": parameters.n_samples}
        drawn["seed"] = parameters.seed if parameters.n_samples else 0
        questions.append(Question(served, "reconstruct", drawn))
    return questions


async def _ask(request: Request, served: Version, question: Question, rows: Rows, parameters: Parameters) -> Answered:
    numbers = sizes.check(question, rows, served.config, sizes.V2)
    answered: Answered = await request.app.state.batcher.ask(
        question, rows, None, parameters.timeout_seconds, is_gone(request), numbers
    )
    return answered


def _count(
    request: Request, served: Version, rows: Rows, found: list[Answered], times: tuple[float, float, float]
) -> None:
    began_at, read_at, computed_at = times
    now = time.monotonic()
    seconds = {
        "success": now - began_at,
        "queue": max(one.queue_seconds for one in found),
        "compute_input": read_at - began_at,
        "compute_infer": max(one.compute_seconds for one in found),
        "compute_output": now - computed_at,
    }
    request.app.state.statistics.succeeded(served, rows.count, seconds)
