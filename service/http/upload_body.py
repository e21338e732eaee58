"""Receives a large body: limits its size, checks its digest, writes it to a file of the store, and adds its row."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from fastapi import Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.http.bulk_lane import PIECE_BYTES
from service.http.dependencies import Caller, Services
from service.http.idempotency import Once
from service.shared import storage
from service.shared.errors import BadInput, Fault, QuotaExceeded, SensoriumError, TooLarge
from service.shared.storage import Stored, Writer

CONTENT_DIGEST = "content-digest"

Answer = TypeVar("Answer", bound=BaseModel)


@asynccontextmanager
async def received(request: Request, services: Services, caller: Caller, once: Once) -> AsyncIterator[Writer]:
    """The body of a request as a file, which is removed at the end of the block unless it is committed.

    Raises TooLarge, QuotaExceeded and StorageFull as soon as the size is known, BadInput for a wrong Content-Digest.
    """
    room = await run_in_threadpool(_room, services, caller, once)
    limits = _Limits(services.settings.upload_bytes, None if room is None else caller.quotas.stored_bytes, room)
    async with contextmanager_in_threadpool(services.storage.writer(caller.project_id)) as writer:
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            _check_size(int(length), limits)
            await run_in_threadpool(writer.expect, int(length))
        piece = bytearray()  # a list of single bytes would need much more memory
        async for chunk in request.stream():
            piece += chunk
            _check_size(writer.size_bytes + len(piece), limits)
            if len(piece) >= PIECE_BYTES:
                await services.bulk.run(writer.write, piece)
                piece = bytearray()
        await services.bulk.run(writer.write, piece)
        _check_digest(request.headers.get(CONTENT_DIGEST), writer.sha256)
        yield writer


def keep(
    services: Services,
    caller: Caller,
    once: Once,
    stored: Stored,
    create: Callable[[Session, Stored, int | None], Answer],
    answered_by: type[Answer],
) -> Answer:
    """Add the row of a committed file. create: called with the session, the file, and what the project may store.

    A file that gets no row is removed. Raises what `create` and `once` raise.
    """
    try:
        return once.do(
            services.database, lambda session: create(session, stored, caller.quotas.stored_bytes), answered_by
        )
    except SensoriumError:
        storage.discard(services.database, services.storage, stored)
        raise


def _room(services: Services, caller: Caller, once: Once) -> int | None:
    """How many more bytes the project may store. A repeated request stores nothing."""
    max_bytes = caller.quotas.stored_bytes
    if max_bytes is None or once.was_sent(services.database):
        return None
    with services.database.reader() as session:
        return max_bytes - storage.stored_bytes(session, caller.project_id)


class _Limits(NamedTuple):
    """Limits of a body, in bytes; None is no limit. quota: all that the project may store. room: what is left of it."""

    upload: int
    quota: int | None
    room: int | None


def _check_size(size: int, limits: _Limits) -> None:
    """Raise TooLarge for a body that can never be stored, QuotaExceeded for one that could be after deletions."""
    if size > limits.upload:
        raise TooLarge("upload_too_large", f"the upload has more than {limits.upload} bytes")
    if limits.quota is not None and size > limits.quota:
        detail = f"the upload has more than the {limits.quota} bytes that the project may store: ask for a larger quota"
        raise TooLarge("upload_too_large", detail)
    if limits.room is not None and size > limits.room:
        raise QuotaExceeded(f"the project may store {max(0, limits.room)} more bytes, and the upload has more")


def _check_digest(content_digest: str | None, sha256: str) -> None:
    """Compare with the digest that the client announced (RFC 9530). Other algorithms than sha-256 are ignored."""
    for entry in (content_digest or "").split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm.lower() != "sha-256":
            continue
        match = re.fullmatch(r":([A-Za-z0-9+/=]+):", value)
        try:
            expected = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            expected = b""
        if len(expected) != hashlib.sha256().digest_size:
            detail = f"Content-Digest is {content_digest!r}, expected sha-256=:BASE64:"
            raise BadInput([Fault(CONTENT_DIGEST, "bad_digest", detail)])
        if not hmac.compare_digest(expected.hex(), sha256):
            detail = f"the body has sha256 {sha256}, Content-Digest says {expected.hex()}"
            raise BadInput([Fault(CONTENT_DIGEST, "digest_mismatch", detail)])
