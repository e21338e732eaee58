"""uvicorn's HTTP protocol, with bounds on all that is read before a key is known, and on the time that it takes.

`service.http.request_head` checks what ASGI can see (Host, transfer codings, versions); this file has the rest.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
# What a chunked body may have besides its values: sizes, extensions and trailers. Each byte of a value allows a few
# more, so that a body in chunks of one byte each is read.
MAX_FRAMING_BYTES = 16 * 1024
FRAMING_BYTES_PER_VALUE = 12
# Requests of one connection that wait for the answer to the one before.
MAX_PIPELINED = 32
HEAD_SECONDS = 15.0
# The longest pause within a body, and the time for what is left of a body after its answer.
BODY_SECONDS = 30.0
# The longest pause of a client that reads its answer.
UNREAD_SECONDS = 60.0
# What a connection without a request has, once the server ends, to bring one that is on its way.
LINGER_SECONDS = 1.0

IS_GONE = "sensorium.is_gone"
"""Where a request's scope has a function that says whether its client has gone."""


class Refusal(Exception):
    """A request that ends its connection. Raised in a callback of the parser, it ends the parsing too."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "code": code}
        content = orjson.dumps({**body, "request_id": "", "errors": []})
        head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        self.answer = f"{head}content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content


HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"the request line and headers have more than {MAX_HEAD_BYTES} bytes",
)
FRAMING_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "trailers_too_large",
    f"the chunk sizes, chunk extensions and trailers of the body have more than {MAX_FRAMING_BYTES} bytes"
    " that are no content: send larger chunks, without extensions and trailers",
)
TOO_SLOW = Refusal(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the rest of the request did not come in time")
UPGRADE_WITH_BODY = Refusal(
    HTTPStatus.BAD_REQUEST,
    "upgrade_not_offered",
    "the request has a body and asks to upgrade the connection, which the service never does:"
    " send it as HTTP/1.1, without the header `Upgrade`",
)
NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "invalid_http", "the bytes that came are not a request of HTTP/1.1")


class _EnoughForNow(Exception):
    """The parser must stop: what it has read is answered, and the connection ends."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose requests are too large besides their bodies, or too slow, and ignores trailers.

    A connection looks at the clock now and then: a timer for every request would cost each of them.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._waits_since: float | None = None
        self._unread_bytes = 0
        self._unread_since = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._refusal: Refusal | None = None
        self._is_refused = False
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._look_at_the_clock()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and what a body has besides its values.

        A piece that begins within a head counts as head; what follows a head in the same piece does not count.
        """
        if self._is_refused:
            return
        if self._waits_since is None and self._is_idle():
            self._waits_since = self.loop.time()  # a line break between two requests begins none, and ends the idling
        if self._in_head:
            self._head_bytes += len(data)
        body_of = None if self._in_head else self.cycle
        self._body_bytes = 0
        super().data_received(data)
        if self._in_head:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
        elif body_of is self.cycle:
            extra = len(data) - self._body_bytes - FRAMING_BYTES_PER_VALUE * self._body_bytes
            self._framing_bytes = max(self._framing_bytes + extra, 0)
            if self._framing_bytes > MAX_FRAMING_BYTES:
                self._refuse(FRAMING_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        # for work that is worth doing only while somebody waits for it
        self.scope[IS_GONE] = self.transport.is_closing  # type: ignore[literal-required]
        if self._waits_since is None:
            self._waits_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: that one is dropped, as whatever reads headers would believe it."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has ended; how large the body may be is for the application to say."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _EnoughForNow
        upgrades = self.parser.should_upgrade()
        if upgrades and any(_announces_body(*header) for header in self.headers):
            # The parser would take the body for the next request, whoever it is that chose its bytes.
            self._refusal = UPGRADE_WITH_BODY
            raise UPGRADE_WITH_BODY
        super().on_headers_complete()
        self._in_head, self._head_bytes, self._framing_bytes = False, 0, 0
        self._waits_since = self.loop.time()
        if self.scope["http_version"] == "1.0":  # such a client does not know the answer 100
            self.cycle.waiting_for_100_continue = False
        if self._is_ending or upgrades:  # the parser drops what came with a request that asks to upgrade
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body. What is left of one after its answer does not prolong the time that it has."""
        self._body_bytes += len(body)
        if not self.cycle.response_complete:
            self._waits_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next thing on this connection is a head again; how long it may be idle before, uvicorn says."""
        self._in_head, self._waits_since = True, None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """End a connection whose bytes could not be parsed."""
        self._refuse(self._refusal or NOT_HTTP)

    def resume_writing(self) -> None:
        """The client has read what was held back."""
        self._unread_bytes = 0
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        if self._clock is not None:
            self._clock.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: the answer under way, or the next one, is the last."""
        self._is_ending = True
        if self._is_idle():
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _look_at_the_clock(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread_bytes or self._unread_bytes == 0:
            self._unread_since = now
        self._unread_bytes = unread
        if now - self._unread_since > UNREAD_SECONDS:
            self.transport.abort()  # to close would wait for the client to read
            return
        allowed = HEAD_SECONDS if self._in_head else BODY_SECONDS
        if self._waits_since is not None and now - self._waits_since > allowed:
            if not self.flow.read_paused:
                self._refuse(TOO_SLOW)
            else:
                self._waits_since = now  # we are slow, not the client
        self._clock = self.loop.call_later(min(HEAD_SECONDS, BODY_SECONDS) / 4, self._look_at_the_clock)

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection. A request that is being answered gets its answer first, and nothing in between."""
        if self._is_refused:
            return
        self._is_refused = True
        if self._is_idle():
            self.transport.write(refusal.answer)
        elif self._in_head:  # of a later request
            self.cycle.keep_alive = False
            return
        elif not self.cycle.response_started and not self.pipeline:
            self.transport.write(refusal.answer)
        self.transport.close()


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
