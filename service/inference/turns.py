"""Who computes when: one at a time, in a thread of the engine's own, with a bounded queue before it."""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from service.shared.errors import Unavailable

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class Turns:
    """Keeps computation out of the threads that every other route shares, so that health and CRUD never wait for it."""

    def __init__(self, most_waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(1)
        self._most_waiting = most_waiting

    async def take(
        self, compute: Callable[Arguments, Answer], *args: Arguments.args, **named: Arguments.kwargs
    ) -> Answer:
        """Run `compute` when its turn comes. Raises Unavailable when too many wait already."""
        if self._limiter.statistics().tasks_waiting >= self._most_waiting:
            raise Unavailable("engine_busy", f"{self._most_waiting} requests wait for the engine already; try again")
        return await anyio.to_thread.run_sync(partial(compute, *args, **named), limiter=self._limiter)
