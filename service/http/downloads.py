"""File responses: the whole file, or the part that `Range` and `If-Range` request (RFC 9110, section 14)."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, NamedTuple

from fastapi import Header, Request, Response
from fastapi.responses import StreamingResponse

from service.http import byte_ranges, head_requests
from service.http.bulk_lane import PIECE_BYTES
from service.http.dependencies import Services
from service.http.header_fields import fields
from service.shared.storage import CorruptArtifact, Stored

MEDIA_TYPE = "application/octet-stream"

FIELDS = ("Accept-Ranges", "Content-Disposition", "ETag")
BINARY = {"schema": {"type": "string", "format": "binary"}}
Range = Annotated[str | None, Header(description="`bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`.")]
IfRange = Annotated[
    str | None, Header(description="The ETag of the first part. If the file has changed, the whole file is sent.")
]


def answers(content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The successful responses of a download, for the API description; `error_responses.DOWNLOAD` are its errors."""
    return {
        200: {"description": "The file.", "content": content, **fields(*FIELDS)},
        206: {"description": "A part of the file.", "content": content, **fields(*FIELDS, "Content-Range")},
    }


class Part(NamedTuple):
    """The bytes to send, `start` to `stop` (exclusive), with the status and the headers of the answer."""

    status: int
    start: int
    stop: int
    headers: dict[str, str]


def part(request: Request, range: str | None, if_range: str | None, etag: str, size: int, filename: str) -> Part:
    """The part of a file to send. Raises Unsatisfiable."""
    if head_requests.is_head(request.scope):  # RFC 9110 defines Range for GET only
        range = None
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    requested = byte_ranges.parse(range, size) if range is not None and if_range in (None, etag) else None
    if requested is None:
        return Part(200, 0, size, headers)
    start, stop = requested
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Part(206, start, stop, headers)


def stored(
    request: Request, services: Services, file: Stored, filename: str, range: str | None, if_range: str | None
) -> Response:
    """Send an artifact or a part of it. Raises Unsatisfiable and CorruptArtifact."""
    sent = part(request, range, if_range, f'"{file.sha256}"', file.size_bytes, filename)
    return framed(request, services, file, sent)


def framed(
    request: Request,
    services: Services,
    file: Stored,
    part: Part,
    before: bytes = b"",
    after: bytes = b"",
    media_type: str = MEDIA_TYPE,
) -> Response:
    """Send a part of the concatenation of `before`, an artifact and `after`. Raises CorruptArtifact."""
    if head_requests.is_head(request.scope):  # the digest of the file is checked when it is sent
        return Response(headers=part.headers, media_type=media_type)
    content = _pieces(before, _open(services, file, part.start), file.size_bytes, after, part.start, part.stop)
    return StreamingResponse(services.bulk.iterate(content), part.status, headers=part.headers, media_type=media_type)


def _open(services: Services, file: Stored, start: int) -> BinaryIO:
    """Open an artifact, verified when its first byte is sent.

    The parts of a resumed download are not verified: each would read the whole file, and the client knows the digest.
    """
    if start:
        try:
            opened = services.storage.path(file.project_id, file.sha256).open("rb")
        except FileNotFoundError:
            pass
        else:
            if os.fstat(opened.fileno()).st_size == file.size_bytes:
                return opened
            opened.close()
    return services.storage.fetch(file.project_id, file.sha256, file.size_bytes).open("rb")


def _pieces(before: bytes, file: BinaryIO, size: int, after: bytes, start: int, stop: int) -> Iterator[bytes]:
    with file:
        if start < len(before):
            yield before[start:stop]
        at, end = max(start - len(before), 0), min(stop - len(before), size)
        file.seek(min(at, size))
        while at < end:
            if not (piece := file.read(min(PIECE_BYTES, end - at))):
                raise CorruptArtifact(f"the file ends after {at} bytes, expected {size}")
            yield piece
            at += len(piece)
        file_end = len(before) + size
        if stop > file_end:
            yield after[max(start - file_end, 0) : stop - file_end]
