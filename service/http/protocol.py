"""uvicorn's HTTP protocol with limits on everything that is read before an API key is checked.

`service.http.request_head` checks what ASGI shows (Host, transfer codings, versions); this file limits the rest. It
overrides undocumented methods of uvicorn, whose version is capped for that (decision 62, `tests/test_version_bounds`).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.refusals import (
    FRAMING_TOO_LARGE,
    HEAD_TOO_LARGE,
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    NOT_HTTP,
    UPGRADE_WITH_BODY,
    Refusal,
    too_slow,
)

# Each byte of content raises the limit of chunk sizes, extensions and trailers, so that a body in chunks of one byte
# each is read.
FRAMING_BYTES_PER_CONTENT_BYTE = 12
# Maximum number of requests of one connection that wait for the response to the previous request.
MAX_PIPELINED = 32
HEAD_SECONDS = 15.0
# The longest pause within a body, and the time for the rest of a body after its answer.
BODY_SECONDS = 30.0
# The longest pause of a client that reads its response.
UNREAD_SECONDS = 60.0
# During shutdown, how long an idle connection may still receive a request.
LINGER_SECONDS = 1.0

IS_GONE = "sensorium.is_gone"
"""Where the scope of a request has a function that says whether its client has disconnected."""


class _StopParsing(Exception):
    """Answer what was read so far, then end the connection."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose requests are too slow, or whose heads or chunk framing are too large. Ignores trailers.

    One timer per connection checks the times every few seconds: a timer per request would slow down every request.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head_bytes = 0
        self._content_bytes = 0
        self._framing_bytes = 0
        self._waits_since: float | None = None
        self._unread_bytes = 0
        self._unread_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: Refusal | None = None
        self._is_refused = False
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first head."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._check_times()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of heads, and those of bodies that are not content.

        Data that begins within a head counts as head; what follows a head in the same data does not count.
        """
        if self._is_refused:
            return
        if self._waits_since is None and self._is_idle():
            self._waits_since = self.loop.time()  # a line break between two requests ends the idle time
        if self._in_head:
            self._head_bytes += len(data)
        body_of = None if self._in_head else self.cycle
        self._content_bytes = 0
        super().data_received(data)
        if self._in_head:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
        elif body_of is self.cycle:
            extra = len(data) - self._content_bytes - FRAMING_BYTES_PER_CONTENT_BYTE * self._content_bytes
            self._framing_bytes = max(self._framing_bytes + extra, 0)
            if self._framing_bytes > MAX_FRAMING_BYTES:
                self._refuse(FRAMING_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.scope[IS_GONE] = self.transport.is_closing  # type: ignore[literal-required]
        if self._waits_since is None:
            self._waits_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header and drop a trailer: uvicorn would append it to the headers, which the application trusts."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head ends. The application limits the size of its body."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _StopParsing
        upgrades = self.parser.should_upgrade()
        if upgrades and any(_announces_body(*header) for header in self.headers):
            # The parser would take the body for the next request, so that its sender would choose that request.
            self._refusal = UPGRADE_WITH_BODY
            raise UPGRADE_WITH_BODY
        super().on_headers_complete()
        self._in_head, self._head_bytes, self._framing_bytes = False, 0, 0
        self._waits_since = self.loop.time()
        if self.scope["http_version"] == "1.0":  # HTTP/1.0 has no answer 100
            self.cycle.waiting_for_100_continue = False
        if self._is_ending or upgrades:  # the parser drops the data after a request that asks to upgrade
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of a body. After the answer, more of it does not extend the time limit."""
        self._content_bytes += len(body)
        if not self.cycle.response_complete:
            self._waits_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request ends. uvicorn limits the idle time until the next head."""
        self._in_head, self._waits_since = True, None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """End a connection whose data could not be parsed."""
        self._refuse(self._refusal or NOT_HTTP)

    def resume_writing(self) -> None:
        """The client has read enough of the answer."""
        self._unread_bytes = 0
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server shuts down: the current response, or the next one, is the last."""
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

    def _check_times(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread_bytes or self._unread_bytes == 0:
            self._unread_since = now
        self._unread_bytes = unread
        if now - self._unread_since > UNREAD_SECONDS:
            self.transport.abort()  # `close` would wait until the client reads
            return
        allowed = HEAD_SECONDS if self._in_head else BODY_SECONDS
        if self._waits_since is not None and now - self._waits_since > allowed:
            if not self.flow.read_paused:
                self._refuse(too_slow(allowed))
            else:
                self._waits_since = now  # the application is slow, not the client
        self._timer = self.loop.call_later(min(HEAD_SECONDS, BODY_SECONDS) / 4, self._check_times)

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection. A response that is being sent is finished first."""
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
