"""Requests that come while the backend is at work join its next batch; an idle one begins at once."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from service.inference import metrics
from service.inference.backend import Backend, BackendAway
from service.inference.payload import MOST_BYTES, Rows
from service.inference.questions import Loadable, Question, part_of
from service.inference.sizes import MOST_TOGETHER, draws_of, row_bytes, steps_of
from service.inference.values import Array
from service.shared.errors import Damaged, Exhausted, TimedOut, Unavailable

# What is wrong with the version, or with whoever computes, is wrong for each of a batch.
OF_THE_WHOLE_BATCH = (BackendAway, Damaged, Exhausted)


class Answered(NamedTuple):
    """An answer, arrays about the asker's rows alone, and where its time went."""

    tree: dict[str, Any]
    queue_seconds: float
    batch_seconds: float
    compute_seconds: float
    batch_rows: int


@dataclass(eq=False)
class _Ask:
    question: Question
    rows: Rows
    state: Array | None
    asked_at: float
    deadline: float
    is_gone: Callable[[], bool]
    numbers: int
    answered: asyncio.Future[Answered]
    waits: bool = False

    def is_over(self, now: float) -> bool:
        """Whether nobody waits for the answer any more. Then it is said so to whoever might, and has left the queue."""
        if not self.answered.done() and now > self.deadline:
            self.answered.set_exception(TimeoutError())
        elif not self.answered.done() and self.is_gone():
            self.answered.set_exception(Unavailable("client_gone", "nobody waits for the answer any more"))
        if self.answered.done():
            self.waits = False
            return True
        return False


def _stays() -> bool:
    return False


class Batcher:
    """What is computed together, and when. All of it happens in one event loop.

    A batch has at most `most_rows` rows, `most_steps` time steps, padding and draws included, `MOST_BYTES`, and
    `MOST_TOGETHER` numbers to compute, unless a single request has more.
    """

    def __init__(self, backend: Backend, most_waiting: int, most_rows: int, most_steps: int) -> None:
        self._backend = backend
        self._most_waiting = most_waiting
        self._most_rows = most_rows
        self._most_steps = most_steps
        self._waiting: deque[_Ask] = deque()
        self._preparing = 0
        self._bytes = 0
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for a batch."""
        return len(self._waiting) + self._preparing

    async def load(self, version: Loadable) -> None:
        """Have a version loaded and warm. Raises Damaged, Exhausted and Unavailable."""
        await self._backend.prepare(version)

    async def unload(self, version: Loadable) -> None:
        """Let a version go. It comes back with the next request."""
        await self._backend.forget(version)

    async def ask(
        self,
        question: Question,
        rows: Rows,
        state: Array | None = None,
        timeout_seconds: float = float("inf"),
        is_gone: Callable[[], bool] = _stays,
        numbers: int = 1,
    ) -> Answered:
        """The answer about these rows, of each of whose time steps the model makes so many numbers (`sizes.check`).

        Raises Unavailable when too much waits already, TimedOut when the time is up before it is computed. Who stops
        waiting, or is gone when its batch begins, is not computed for.
        """
        size = rows.nbytes
        if self.waiting >= self._most_waiting:
            now = time.monotonic()
            self._waiting = deque(ask for ask in self._waiting if not ask.is_over(now))
        if self.waiting >= self._most_waiting or (self._bytes and self._bytes + size > MOST_BYTES):
            metrics.REFUSED.inc()
            raise Unavailable("engine_busy", f"{self.waiting} requests wait for the engine already; try again")
        now = time.monotonic()
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        ask = _Ask(question, rows, state, now, now + timeout_seconds, is_gone, numbers, answered)
        self._bytes += size
        try:
            if timeout_seconds == float("inf"):
                return await self._answer_to(ask)
            async with asyncio.timeout(timeout_seconds):
                return await self._answer_to(ask)
        except TimeoutError as error:
            raise TimedOut(f"no answer within timeout_seconds, {timeout_seconds:g}") from error
        finally:
            self._bytes -= size
            if ask.waits:  # whoever gave up takes no place in the queue
                self._waiting.remove(ask)

    async def _answer_to(self, ask: _Ask) -> Answered:
        self._preparing += 1
        try:
            await self._backend.prepare(ask.question.version)
        finally:
            self._preparing -= 1
        self._waiting.append(ask)
        ask.waits = True
        self._begin()
        return await ask.answered

    def _begin(self) -> None:
        if self._waiting and self._under_way < self._backend.most_batches:
            self._under_way += 1
            task = asyncio.create_task(self._do())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self) -> None:
        """Compute a batch, and let the next begin: when this one is done, or may never be.

        It is chosen when the loop comes round to this: all that had arrived until then share it.
        """
        answering = self._answer(self._next_batch())
        if self._backend.slot_seconds is None:
            try:
                await answering
            finally:
                self._free_a_slot()
            return
        self._begin()
        task = asyncio.ensure_future(answering)
        try:
            await asyncio.wait({task}, timeout=self._backend.slot_seconds)
        finally:
            self._free_a_slot()
        await task

    def _free_a_slot(self) -> None:
        self._under_way -= 1
        self._begin()

    def _next_batch(self) -> list[_Ask]:
        """The oldest request, and those behind it that ask the same and fit beside it."""
        now = time.monotonic()
        if len(self._waiting) == 1:  # nobody to share it with: its size does not matter
            ask = self._waiting.popleft()
            ask.waits = False
            return [] if ask.is_over(now) else [ask]
        kept: deque[_Ask] = deque()
        batch: list[_Ask] = []
        size = _Size()
        for ask in self._waiting:
            if ask.is_over(now):
                continue
            if not batch or self._fits(ask, batch[0], size):
                batch.append(ask)
                size.add(ask)
                ask.waits = False
            else:
                kept.append(ask)
        self._waiting = kept
        return batch

    def _fits(self, ask: _Ask, first: _Ask, size: "_Size") -> bool:
        if ask.question != first.question or ask.question.operation == "sample":
            return False
        rows, steps = size.rows + ask.rows.count, max(size.steps, steps_of(ask.question, ask.rows))
        columns = size.columns if size.columns.keys() >= ask.rows.values.keys() else size.columns | row_bytes(ask.rows)
        return (
            rows <= self._most_rows
            and rows * steps * draws_of(first.question) <= self._most_steps
            and rows * steps * max(size.numbers, ask.numbers) <= MOST_TOGETHER
            and rows * steps * sum(columns.values()) <= MOST_BYTES
        )

    async def _answer(self, batch: Sequence[_Ask]) -> None:
        """One batch for all; where that fails, each by itself, so that only bad ones do."""
        if not batch:
            return
        try:
            await self._compute(batch)
        except Exception as error:
            if len(batch) == 1 or isinstance(error, OF_THE_WHOLE_BATCH):
                for ask in batch:
                    _fail(ask, error)
                return
            for ask in batch:
                if not ask.is_over(time.monotonic()):
                    await self._answer([ask])

    async def _compute(self, batch: Sequence[_Ask]) -> None:
        began_at = time.monotonic()
        states = [ask.state for ask in batch if ask.state is not None]
        parts = [ask.rows for ask in batch]
        state = np.concatenate(states) if states else None
        within = max(ask.deadline for ask in batch) - began_at
        found = await self._backend.compute(batch[0].question, parts, state, within)
        seconds = time.monotonic() - began_at
        count, first = sum(part.count for part in parts), 0
        waited = began_at - batch[0].asked_at
        metrics.computed(batch[0].question.operation, len(batch), count, waited, found.seconds)
        for ask in batch:
            own = slice(first, first + ask.rows.count)
            first = own.stop
            if not ask.answered.done():  # else nobody waits any more
                tree = part_of(found.tree, own)
                ask.answered.set_result(Answered(tree, began_at - ask.asked_at, seconds, found.seconds, count))


class _Size:
    """What a batch that is being chosen comes to: rows, steps of its longest, and of each step numbers and bytes."""

    def __init__(self) -> None:
        self.rows = self.steps = self.numbers = 0
        self.columns: dict[str, int] = {}

    def add(self, ask: _Ask) -> None:
        """Count one more request."""
        rows = ask.rows
        self.rows += rows.count
        self.steps = max(self.steps, steps_of(ask.question, rows))
        self.numbers = max(self.numbers, ask.numbers)
        if not self.columns.keys() >= rows.values.keys():
            self.columns |= row_bytes(rows)


def _fail(ask: _Ask, error: Exception) -> None:
    if not ask.answered.done():
        ask.answered.set_exception(error)
