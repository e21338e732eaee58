"""Read the head of a request: its id, its encoding, and faults of HTTP (RFC 9112)."""

import random
import re
import time
from typing import NamedTuple

from starlette.types import Scope

from service.shared.errors import BadRequest, SensoriumError, UnsupportedFeature, UnsupportedMediaType

REQUEST_ID = b"x-request-id"
MAX_ID_CHARACTERS = 100
SHOWN_CHARACTERS = 40
VERSIONS = ("1.0", "1.1")
# A name, an IPv4 address or an IPv6 address in brackets, then an optional port. It may be empty (RFC 9112, 3.2).
HOST = re.compile(rb"([A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-fvV:.]+\])(:[0-9]*)?")


class Head(NamedTuple):
    """The id of the request, given or new; the content encoding of its body; and its fault, if it has one."""

    request_id: str
    encoding: str | None
    fault: SensoriumError | None


def read(scope: Scope) -> Head:
    """Read everything in one pass over the headers, because every request pays for it."""
    request_id, encoding, hosts, coding = None, None, [], None
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name == REQUEST_ID and 0 < len(value) <= MAX_ID_CHARACTERS and value.isascii():
            text_value = value.decode("ascii")
            request_id = text_value if text_value.isprintable() else None
        elif name == b"content-encoding" and value.lower() != b"identity":
            encoding = value.decode("latin-1")
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b", " + value
    fault = _fault(scope["http_version"], hosts, coding)
    return Head(request_id or f"req_{time.time_ns():016x}{random.getrandbits(48):012x}", encoding, fault)


def unsupported_encoding(encoding: str) -> UnsupportedMediaType:
    """The error for an encoded body on a path that does not read one."""
    detail = f"content encoding {_quoted(encoding)}, expected a body that is not encoded"
    return UnsupportedMediaType("unsupported_content_encoding", detail)


def _fault(version: str, hosts: list[bytes], coding: bytes | None) -> SensoriumError | None:
    if version not in VERSIONS:
        return BadRequest("invalid_http", f"HTTP/{version} came, expected HTTP/1.1")
    if version == "1.1" and not hosts:
        return BadRequest("invalid_host", "the request has no header `Host`, expected one")
    if len(hosts) > 1:
        return BadRequest("invalid_host", f"the request has {len(hosts)} headers `Host`, expected one")
    if hosts and HOST.fullmatch(hosts[0]) is None:
        quoted = _quoted(hosts[0].decode("latin-1"))
        return BadRequest("invalid_host", f"header `Host` is {quoted}, expected a host and an optional port")
    if coding is None:
        return None
    if version == "1.0":
        return BadRequest(
            "invalid_http", "the request has `Transfer-Encoding` in HTTP/1.0, expected HTTP/1.1 or `Content-Length`"
        )
    if coding.lower() != b"chunked":
        quoted = _quoted(coding.decode("latin-1"))
        return UnsupportedFeature(
            "unsupported_transfer_encoding", f"transfer encoding {quoted}, expected only 'chunked'"
        )
    return None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
