"""uvicorn's HTTP protocol, with bounds on the size of a request's head, and on how long its bytes may take."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
# The longest pause within a body.
BODY_SECONDS = 30.0
# What a connection without a request has, once the server ends, to bring one that is on its way.
LINGER_SECONDS = 1.0

IS_GONE = "sensorium.is_gone"
"""Where a request's scope has a function that says whether its client has gone."""

_TOO_LARGE = b"431 Request Header Fields Too Large", b"the request line and headers have more than 65536 bytes"
_TOO_SLOW = b"408 Request Timeout", b"the rest of the request did not come in time"


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request line and headers are too large, or whose requests do not come.

    A connection looks at the clock now and then: a timer for every request would cost each of them.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head_bytes = 0
        self._waits_since: float | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._look_at_the_clock()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head. Of a piece that begins one, what comes before counts too."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            self._waits_since = self.loop.time()  # for the rest of the body
        elif self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        # for work that is worth doing only while somebody waits for it
        self.scope[IS_GONE] = self.transport.is_closing  # type: ignore[literal-required]
        if self._waits_since is None:
            self._waits_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """A head has ended; how large the body may be is for the application to say."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The next thing on this connection is a head again; how long it may be idle before, uvicorn says."""
        self._in_head, self._waits_since = True, None
        super().on_message_complete()

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
        allowed = HEAD_SECONDS if self._in_head else BODY_SECONDS
        if self._waits_since is not None and self.loop.time() - self._waits_since > allowed:
            if not self.flow.read_paused:  # else we are slow, not the client
                self._refuse(*_TOO_SLOW)
                return
            self._waits_since = self.loop.time()
        self._clock = self.loop.call_later(min(HEAD_SECONDS, BODY_SECONDS) / 4, self._look_at_the_clock)

    def _refuse(self, status: bytes, detail: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, len(detail)) + detail)
        self.transport.close()
