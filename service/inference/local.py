"""Batches computed by an engine in this process, in a thread of its own."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from service.inference.backend import Computed
from service.inference.engine import Engine
from service.inference.payload import Array, Rows
from service.inference.questions import Loadable, Question, merged


class LocalBackend:
    """One thread computes and another loads, so that health, CRUD and loaded versions wait for neither."""

    most_batches = 1
    slot_seconds: float | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def prepare(self, version: Loadable) -> None:
        """Load a version unless it is there."""
        if not self._engine.holds(version):
            await asyncio.get_running_loop().run_in_executor(self._loading, self._engine.load, version)

    async def forget(self, version: Loadable) -> None:
        """Let a version go."""
        self._engine.forget(version)

    async def compute(self, question: Question, parts: Sequence[Rows], state: Array | None) -> Computed:
        """The answer of the engine in this process."""
        return await asyncio.get_running_loop().run_in_executor(self._computing, self._compute, question, parts, state)

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """Finish the batch under way; nobody waits any more."""
        for pool in (self._computing, self._loading):
            pool.shutdown(cancel_futures=True)

    def _compute(self, question: Question, parts: Sequence[Rows], state: Array | None) -> Computed:
        began_at = time.monotonic()
        tree = self._engine.answer(question, merged(parts), state)
        return Computed(tree, time.monotonic() - began_at)
