"""The end of a server: who has knocked is answered, streams end, and nobody is cut off."""

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
    door = listen("127.0.0.1", 0)
    port = door.getsockname()[1]
    running = asyncio.create_task(server._serve([door]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield server, port, drained
    server.should_exit = True
    await asyncio.wait_for(running, 10)


async def ask(port: int) -> bytes:
    """All that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_request_under_way_is_answered_and_its_connection_ends() -> None:
    async def scenario() -> None:
        application = _Slow()
        async with serving(application) as (server, port, drained):
            asked = asyncio.create_task(ask(port))
            await application.begun.wait()
            server.should_exit = True
            assert ANSWER in await asyncio.wait_for(asked, 5)
            assert drained == ["now"]

    asyncio.run(scenario())


def test_a_connection_without_a_request_is_waited_for_and_told_that_it_was_the_last() -> None:
    async def scenario() -> None:
        async with serving(_Slow()) as (server, port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.1)
            server.should_exit = True
            await asyncio.sleep(0.4)  # the door is closed, and the request was on its way
            writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            assert b"connection: close" in answer
            assert ANSWER in answer
            writer.close()

    asyncio.run(scenario())


def test_who_has_knocked_is_let_in() -> None:
    async def scenario() -> None:
        async with serving(_Slow()) as (server, port, _):
            accept = server.servers[0].sockets[0].fileno()
            asyncio.get_running_loop().remove_reader(accept)  # nobody opens the door any more
            knocking = socket.create_connection(("127.0.0.1", port))
            knocking.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            server.should_exit = True
            knocking.setblocking(False)
            answer = b""
            while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(knocking, 4096), 5):
                answer += part
            assert ANSWER in answer
            knocking.close()

    asyncio.run(scenario())


def test_an_address_that_is_taken_is_said() -> None:
    with listen("127.0.0.1", 0) as door, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", door.getsockname()[1])
