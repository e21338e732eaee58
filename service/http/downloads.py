"""Answers that are files: as a whole, or the part that `Range` and `If-Range` ask for (RFC 9110, section 14)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from fastapi import Header
from fastapi.responses import StreamingResponse

from service.http import byte_ranges

PIECE_BYTES = 1024 * 1024
MEDIA_TYPE = "application/octet-stream"

BINARY = {"schema": {"type": "string", "format": "binary"}}
Range = Annotated[str | None, Header(description="`bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`.")]
IfRange = Annotated[str | None, Header(description="The ETag of the rest: when it is another by now, all is sent.")]


def answers(content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What a download answers, for the API description."""
    return {
        200: {"description": "The file.", "content": content},
        206: {"description": "A part of the file.", "content": content},
        416: {"description": "There is no such part."},
    }


class Part(NamedTuple):
    """The bytes to send, from `start` up to before `stop`, and with which status and headers."""

    status: int
    start: int
    stop: int
    headers: dict[str, str]


def part(range: str | None, if_range: str | None, etag: str, size: int, filename: str) -> Part:
    """Which bytes of a file to send. Raises Unsatisfiable."""
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    asked = byte_ranges.parse(range, size) if range is not None and if_range in (None, etag) else None
    if asked is None:
        return Part(200, 0, size, headers)
    start, stop = asked
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Part(206, start, stop, headers)


def stored(path: Path, sha256: str, filename: str, range: str | None, if_range: str | None) -> StreamingResponse:
    """The answer that sends a stored file, or a part of it. Raises Unsatisfiable."""
    sent = part(range, if_range, f'"{sha256}"', path.stat().st_size, filename)
    content = _pieces(path.open("rb"), sent.start, sent.stop)
    return StreamingResponse(content, sent.status, headers=sent.headers, media_type=MEDIA_TYPE)


def _pieces(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
            yield piece
            start += len(piece)
