"""uvicorn's HTTP protocol, with bounds on the part of a request that comes before any of our code runs."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0

_TOO_LARGE = b"431 Request Header Fields Too Large", b"the request line and headers have more than 65536 bytes"
_TOO_SLOW = b"408 Request Timeout", b"the headers did not come within 15 seconds"


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request line and headers are too large, or take too long."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, *_TOO_SLOW)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head. Of a piece that begins one, what comes before counts too."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, *_TOO_SLOW)

    def on_headers_complete(self) -> None:
        """A head has ended; what follows is a body, which the application bounds."""
        self._end_head(in_head=False)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next thing on this connection is a head again."""
        self._in_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._end_head(in_head=True)
        super().connection_lost(exc)

    def _end_head(self, *, in_head: bool) -> None:
        self._in_head, self._head_bytes = in_head, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes, detail: bytes) -> None:
        self._end_head(in_head=False)
        head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(detail)) + detail)
        self.transport.close()
