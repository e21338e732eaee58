"""uvicorn's server with a graceful shutdown that fails no request: accept the listen backlog, then drain.

It uses attributes of uvicorn that are not documented; its version is capped for that (decision 62).
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

import uvicorn

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


class Server(uvicorn.Server):
    """`on_drain` is called at the beginning of the shutdown, before any connection is closed."""

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_drain = on_drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the listen backlog, close the listeners, and answer all requests that arrive within a moment."""
        self._on_drain()
        backlog = _accept_all(sockets or [])
        # Close at once: a connection that the system makes after `_accept_all` is lost. uvicorn closes them again.
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        loop = asyncio.get_running_loop()
        for connection in backlog:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _accept_all(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """The connections of the listen backlog."""
    accepted = []
    for listener in listeners:
        listener.setblocking(False)
        try:
            while True:
                accepted.append(listener.accept()[0])
        except OSError:  # the backlog is empty
            continue
    return accepted
