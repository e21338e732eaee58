"""Requests that come while the engine is at work join its next batch; an idle engine begins at once."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from service.inference.engine import Engine
from service.inference.payload import Array, Rows
from service.inference.questions import Question, Tree, merged, part_of
from service.shared.errors import TimedOut, Unavailable

MOST_WAITING_BYTES = 512 * 1024**2


class Answered(NamedTuple):
    """An answer, arrays about the asker's rows alone, and where its time went."""

    tree: dict[str, Any]
    queue_seconds: float
    compute_seconds: float
    batch_rows: int


@dataclass(eq=False)
class _Ask:
    question: Question
    rows: Rows
    state: Array | None
    asked_at: float
    deadline: float
    answered: asyncio.Future[Answered]

    @property
    def steps(self) -> int:
        """Of its longest sequence."""
        return 1 if self.rows.lengths is None else int(self.rows.lengths.max(initial=1))


class Batcher:
    """One thread computes, so that health and CRUD never wait for it. All else happens in one event loop.

    A batch has at most `most_rows` rows and `most_steps` time steps, padding and draws included, unless a single
    request has more.
    """

    def __init__(self, engine: Engine, most_waiting: int, most_rows: int, most_steps: int) -> None:
        self._engine = engine
        self._most_waiting = most_waiting
        self._most_rows = most_rows
        self._most_steps = most_steps
        self._waiting: deque[_Ask] = deque()
        self._waiting_bytes = 0
        self._computing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    def close(self) -> None:
        """Finish the batch under way; nobody waits any more."""
        self._thread.shutdown(cancel_futures=True)

    async def ask(
        self, question: Question, rows: Rows, state: Array | None = None, timeout_seconds: float = float("inf")
    ) -> Answered:
        """The answer about these rows.

        Raises Unavailable when too much waits already, TimedOut when the time is up before it is computed. Who stops
        waiting is not computed for.
        """
        size = sum(array.nbytes for array in rows.values.values())
        if len(self._waiting) >= self._most_waiting or self._waiting_bytes + size > MOST_WAITING_BYTES:
            raise Unavailable("engine_busy", f"{len(self._waiting)} requests wait for the engine already; try again")
        now = time.monotonic()
        ask = _Ask(question, rows, state, now, now + timeout_seconds, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        self._waiting_bytes += size
        if not self._computing:
            self._begin()
        try:
            return await asyncio.wait_for(ask.answered, None if timeout_seconds == float("inf") else timeout_seconds)
        except TimeoutError as error:
            raise TimedOut(f"no answer within timeout_seconds, {timeout_seconds:g}") from error
        finally:
            self._waiting_bytes -= size

    async def alone(self, compute: Callable[[], Tree]) -> Tree:
        """What the engine computes without rows of anybody, when its turn comes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, compute)

    def _begin(self) -> None:
        batch = self._next_batch()
        self._computing = bool(batch)
        if batch:
            computed = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, batch)
            computed.add_done_callback(lambda done: self._hand_out(batch, done))

    def _next_batch(self) -> list[_Ask]:
        """The oldest request, and those behind it that ask the same and fit beside it."""
        kept: deque[_Ask] = deque()
        batch: list[_Ask] = []
        rows = longest = 0
        now = time.monotonic()
        for ask in self._waiting:
            if ask.answered.done() or now > ask.deadline:
                continue
            fits = not batch or (
                ask.question == batch[0].question
                and rows + ask.rows.count <= self._most_rows
                and (rows + ask.rows.count) * max(longest, ask.steps) <= self._most_steps
            )
            if fits:
                batch.append(ask)
                rows, longest = rows + ask.rows.count, max(longest, ask.steps)
            else:
                kept.append(ask)
        self._waiting = kept
        return batch

    def _compute(self, batch: Sequence[_Ask]) -> list[Answered | Exception]:
        """In the engine's thread: one batch for all; where that fails, each by itself, so that only bad ones do."""
        try:
            return list(self._together(batch))
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [answer for ask in batch for answer in self._compute([ask])]

    def _together(self, batch: Sequence[_Ask]) -> Sequence[Answered]:
        began_at = time.monotonic()
        rows = merged([ask.rows for ask in batch])
        states = [ask.state for ask in batch if ask.state is not None]
        tree = self._engine.answer(batch[0].question, rows, np.concatenate(states) if states else None)
        seconds = time.monotonic() - began_at
        answers, first = [], 0
        for ask in batch:
            own = slice(first, first + ask.rows.count)
            answers.append(Answered(part_of(tree, own), began_at - ask.asked_at, seconds, rows.count))
            first += ask.rows.count
        return answers

    def _hand_out(self, batch: Sequence[_Ask], done: "asyncio.Future[list[Answered | Exception]]") -> None:
        found = [done.exception()] * len(batch) if done.exception() is not None else done.result()
        for ask, answer in zip(batch, found, strict=True):
            if ask.answered.done():
                continue  # nobody waits any more
            if isinstance(answer, Answered):
                ask.answered.set_result(answer)
            else:
                ask.answered.set_exception(answer or RuntimeError("the engine has given no answer"))
        self._begin()
