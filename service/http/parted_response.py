"""A large response whose body is complete: it is sent in parts, as fast as the client reads."""

from collections.abc import AsyncIterator, Mapping, Sequence

from starlette.responses import StreamingResponse


def parted_response(parts: Sequence[bytes], headers: Mapping[str, str]) -> StreamingResponse:
    """A response with these parts as its body, and their length as Content-Length."""

    async def content() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return StreamingResponse(content(), headers={**headers, "Content-Length": str(sum(map(len, parts)))})
