"""uvicorn's server, which ends without failing anybody: who has knocked is let in, and who was let in is answered."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import uvicorn

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


class Server(uvicorn.Server):
    """`on_drain` is called when the server was told to end, before the first connection is closed."""

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_drain = on_drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in who waits at the door, close it, and answer what has been asked and what comes within a moment."""
        self._on_drain()
        knocked = _accept_all(sockets or [])
        # At once: whom the system lets in between is cut off. Closing a socket twice does no harm.
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        loop = asyncio.get_running_loop()
        for connection in knocked:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _accept_all(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """The connections that the system has made and nobody has taken."""
    accepted = []
    for listener in listeners:
        listener.setblocking(False)
        try:
            while True:
                accepted.append(listener.accept()[0])
        except OSError:  # none is left
            continue
    return accepted
