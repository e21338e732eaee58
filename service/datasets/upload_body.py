"""Takes the body of an upload: bounded, counted, digested, and recognised by its first bytes."""

import base64
import binascii
import hashlib
import hmac
import re

from service.datasets import formats
from service.datasets.formats import FIRST_BYTES
from service.datasets.formats.format import Format
from service.shared.errors import BadInput, Fault, TooLarge, TooMany
from service.shared.npz import ArrayHeader
from service.shared.storage import Writer

CONTENT_DIGEST = "content-digest"
# Worth trying again after so long: something may have been deleted by then.
RETRY_SECONDS = 60.0


class Receiver:
    """Checks an upload while it comes in. `room` is how many more bytes the project may store."""

    def __init__(self, writer: Writer, most_bytes: int, room: int | None) -> None:
        self._writer = writer
        self._most_bytes = most_bytes
        self._room = room
        self._first = b""

    def announce(self, content_length: str | None) -> None:
        """Refuse at once what says that it is too large. Raises TooLarge, TooMany, StorageFull."""
        if content_length is not None and content_length.isdecimal():
            self._check(int(content_length))
            self._writer.expect(int(content_length))

    def take(self, piece: bytes) -> None:
        """Write the next piece. Raises TooLarge, TooMany, StorageFull."""
        self._check(self._writer.size_bytes + len(piece))
        if len(self._first) < FIRST_BYTES:
            self._first += piece[: FIRST_BYTES - len(self._first)]
        self._writer.write(piece)

    def recognise(self, unpacked_bytes: int) -> tuple[Format, list[ArrayHeader]]:
        """The format, and the arrays that the file's headers announce. Raises BadInput for an unknown format."""
        self._writer.flush()
        format = formats.recognise(self._first)
        return format, format.inspect(self._writer.path, unpacked_bytes)

    def _check(self, size: int) -> None:
        if size > self._most_bytes:
            raise TooLarge("upload_too_large", f"the upload has more than {self._most_bytes} bytes")
        if self._room is not None and size > self._room:
            detail = f"the project may store {max(0, self._room)} more bytes, and the upload has more"
            raise TooMany("quota_exceeded", detail, RETRY_SECONDS)


def check_digest(content_digest: str | None, sha256: str) -> None:
    """Compare with what the client says that it sent (RFC 9530). Raises BadInput.

    Algorithms other than sha-256 are passed over, as the standard says.
    """
    for entry in (content_digest or "").split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm.lower() != "sha-256":
            continue
        found = re.fullmatch(r":([A-Za-z0-9+/=]+):", value)
        try:
            expected = base64.b64decode(found[1], validate=True) if found else b""
        except binascii.Error:
            expected = b""
        if len(expected) != hashlib.sha256().digest_size:
            detail = f"Content-Digest is {content_digest!r}, expected sha-256=:BASE64:"
            raise BadInput([Fault(CONTENT_DIGEST, "bad_digest", detail)])
        if not hmac.compare_digest(expected.hex(), sha256):
            detail = f"the body has sha256 {sha256}, Content-Digest says {expected.hex()}"
            raise BadInput([Fault(CONTENT_DIGEST, "digest_mismatch", detail)])
