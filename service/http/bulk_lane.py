"""Keeps short requests fast beside large uploads and downloads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

Given = ParamSpec("Given")
Result = TypeVar("Result")


class BulkLane:
    """Reads, writes and hashes the pieces of all large transfers in threads, one piece at a time.

    In the event loop, a piece of 1 MiB would hold up every other request for 2 ms, or longer when the disk is busy.
    One at a time, however many transfers there are: a transfer whose piece waits reads nothing from its client, so
    that neither the event loop nor the processor is taken by all of them at once.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
        """Do one piece of work in a thread, when it is its turn."""
        async with self._turn:
            return await run_in_threadpool(work, *arguments, **named)

    async def iterate(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces, each of them made in a thread."""
        end = None
        while (piece := await self.run(next, pieces, end)) is not end:
            yield piece
