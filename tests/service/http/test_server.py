"""Graceful shutdown: the listen backlog and all current requests are answered."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from service.http.protocol import BoundedProtocol
from service.http.server import Server, listen

ANSWER = b"answered"


class _Slow:
    """An application that answers after a while."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            return
        self.begun.set()
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": ANSWER})


@asynccontextmanager
async def serving(application: _Slow) -> AsyncIterator[tuple[Server, int, list[str]]]:
    drained: list[str] = []
    config = uvicorn.Config(application, http=BoundedProtocol, lifespan="off", log_config=None)
    server = Server(config, on_drain=lambda: drained.append("now"))
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield server, port, drained
    server.should_exit = True
    await asyncio.wait_for(running, 10)


async def ask(port: int) -> bytes:
    """All bytes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_current_request_is_answered_and_its_connection_ends() -> None:
    async def scenario() -> None:
        application = _Slow()
        async with serving(application) as (server, port, drained):
            asked = asyncio.create_task(ask(port))
            await application.begun.wait()
            server.should_exit = True
            assert ANSWER in await asyncio.wait_for(asked, 5)
            assert drained == ["now"]

    asyncio.run(scenario())


def test_an_idle_connection_may_send_one_last_request() -> None:
    async def scenario() -> None:
        async with serving(_Slow()) as (server, port, drained):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            server.should_exit = True
            while not drained:  # then the listener is closed
                await asyncio.sleep(0.01)
            writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            assert b"connection: close" in answer
            assert ANSWER in answer
            writer.close()

    asyncio.run(scenario())


def test_the_listen_backlog_is_accepted_and_answered() -> None:
    async def scenario() -> None:
        async with serving(_Slow()) as (server, port, _):
            accept = server.servers[0].sockets[0].fileno()
            asyncio.get_running_loop().remove_reader(accept)  # the server accepts no more
            waiting = socket.create_connection(("127.0.0.1", port))
            waiting.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            server.should_exit = True
            waiting.setblocking(False)
            answer = b""
            while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(waiting, 4096), 5):
                answer += part
            assert ANSWER in answer
            waiting.close()

    asyncio.run(scenario())


def test_a_used_address_is_reported() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])
