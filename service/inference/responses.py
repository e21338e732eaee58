"""Responses that carry answers: a large one is written by a thread and sent in parts."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.inference import writing
from service.inference.questions import Tree


async def response(tree: Tree, told: Callable[[], dict[str, Any]], headers: Mapping[str, str]) -> Response:
    """The response that tells what `told` makes of the arrays in `tree`."""
    if writing.numbers(tree) < writing.LARGE_NUMBERS:
        return Response(writing.dumps(told()), headers=dict(headers), media_type="application/json")
    return large(
        await run_in_threadpool(lambda: writing.pieces(told())), {**headers, "Content-Type": "application/json"}
    )


def large(parts: Sequence[bytes], headers: Mapping[str, str]) -> Response:
    """A response that is sent part by part, each when the client has taken those before."""

    async def content() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return StreamingResponse(content(), headers={**headers, "Content-Length": str(sum(map(len, parts)))})
