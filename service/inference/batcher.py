"""Requests that arrive while the backend computes join its next batch; an idle backend starts at once."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from service.inference import metrics
from service.inference.backend import Backend, BackendUnavailable
from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable, Tree
from service.inference.request_size import step_bytes
from service.inference.rows import MAX_BYTES, Rows
from service.shared.errors import Damaged, Exhausted, TimedOut, Unavailable

# Errors of the version or the backend: each request of the batch would fail alone too.
ERRORS_OF_THE_WHOLE_BATCH = (BackendUnavailable, Damaged, Exhausted)
# Numbers that the requests of one batch compute or answer together. Larger batches gain no speed, and a worker's answer
# has to fit in one value of Redis, at most 512 MB.
MAX_BATCH_NUMBERS = 2**25
BUSY_SECONDS = 1.0


class Answered(NamedTuple):
    """The answer to one request: arrays for its own rows, the token of the next state, and how long it took."""

    tree: dict[str, Any]
    queue_seconds: float
    batch_seconds: float
    compute_seconds: float
    batch_rows: int
    state: str | None = None

    def server_timing(self) -> str:
        """The value of the header Server-Timing."""
        queue, batch, compute = self.queue_seconds * 1e3, self.batch_seconds * 1e3, self.compute_seconds * 1e3
        return f'queue;dur={queue:.3f}, batch;dur={batch:.3f};desc="{self.batch_rows} rows", compute;dur={compute:.3f}'


@dataclass(eq=False, slots=True)
class _Request:
    computation: Computation
    rows: Rows
    state: Array | None
    arrived_at: float
    deadline: float
    is_gone: Callable[[], bool] | None
    numbers: int
    answered: asyncio.Future[Answered]
    is_queued: bool = False

    def is_over(self, now: float) -> bool:
        """Whether the request is answered, cancelled, past its deadline or without client. Sets its error then."""
        if not self.answered.done() and now > self.deadline:
            self.answered.set_exception(TimeoutError())
        elif not self.answered.done() and self.is_gone is not None and self.is_gone():
            self.answered.set_exception(Unavailable("client_gone", "the client has disconnected"))
        if self.answered.done():
            self.is_queued = False
            return True
        return False


class Batcher:
    """Decides which requests are computed together, and when. It runs in one event loop.

    A batch has at most `max_rows` rows, `max_steps` time steps, padding and draws included, MAX_BYTES bytes, and
    MAX_BATCH_NUMBERS numbers, unless a single request has more.
    """

    def __init__(self, backend: Backend, max_waiting: int, max_rows: int, max_steps: int) -> None:
        self._backend = backend
        self._max_waiting = max_waiting
        self._max_rows = max_rows
        self._max_steps = max_steps
        self._queue: deque[_Request] = deque()
        self._preparing = 0
        self._bytes = 0
        self._under_way = 0
        self._asked_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()

    def is_busy(self) -> bool:
        """Whether a request came within the last BUSY_SECONDS."""
        return time.monotonic() - self._asked_at < BUSY_SECONDS

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a batch."""
        return len(self._queue) + self._preparing

    async def load(self, version: Loadable) -> None:
        """Load a version and warm it up. Raises Damaged, Exhausted and Unavailable."""
        await self._backend.prepare(version)

    async def unload(self, version: Loadable) -> None:
        """Free the memory of a version. The next request loads it again."""
        await self._backend.unload(version)

    async def answer(
        self,
        computation: Computation,
        rows: Rows,
        state: Array | None = None,
        timeout_seconds: float = math.inf,
        is_gone: Callable[[], bool] | None = None,
        numbers: int = 1,
    ) -> Answered:
        """The answer for these rows. A request that is cancelled, or whose client is gone, is not computed.

        is_gone: whether the client has disconnected. numbers: how many the model computes or answers for one time step
        of a row.
        Raises Unavailable if the queue is full, TimedOut if there is no answer within timeout_seconds.
        """
        size = rows.nbytes
        if self.waiting >= self._max_waiting:
            now = time.monotonic()
            self._queue = deque(request for request in self._queue if not request.is_over(now))
        if self.waiting >= self._max_waiting or (self._bytes and self._bytes + size > MAX_BYTES):
            metrics.REFUSED.inc()
            raise Unavailable("engine_busy", f"{self.waiting} requests wait for the engine already; try again")
        self._asked_at = now = time.monotonic()
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        request = _Request(computation, rows, state, now, now + timeout_seconds, is_gone, numbers, answered)
        self._bytes += size
        try:
            if timeout_seconds == math.inf:
                return await self._wait(request)
            async with asyncio.timeout(timeout_seconds):
                return await self._wait(request)
        except TimeoutError as error:
            raise TimedOut(f"no answer within timeout_seconds, {timeout_seconds:g}") from error
        finally:
            self._bytes -= size
            if request.is_queued:  # it was cancelled
                self._queue.remove(request)

    async def _wait(self, request: _Request) -> Answered:
        self._preparing += 1
        try:
            await self._backend.prepare(request.computation.version)
        finally:
            self._preparing -= 1
        self._queue.append(request)
        request.is_queued = True
        self._start_batch()
        return await request.answered

    def _start_batch(self) -> None:
        if self._queue and self._under_way < self._backend.max_batches:
            self._under_way += 1
            task = asyncio.create_task(self._run_batch())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_batch(self) -> None:
        """Compute a batch, then start the next: when this one is done, or after `slot_seconds`.

        The task selects its requests when the event loop runs it, so that all requests that arrived before share it.
        """
        computing = self._compute_or_split(self._next_batch())
        if self._backend.slot_seconds is None:
            try:
                await computing
            finally:
                self._free_a_slot()
            return
        self._start_batch()
        task = asyncio.ensure_future(computing)
        try:
            await asyncio.wait({task}, timeout=self._backend.slot_seconds)
        finally:
            self._free_a_slot()
        await task

    def _free_a_slot(self) -> None:
        self._under_way -= 1
        self._start_batch()

    def _next_batch(self) -> list[_Request]:
        """The oldest request, and the later ones with the same computation that fit into its batch."""
        now = time.monotonic()
        if len(self._queue) == 1:  # a single request may have any size
            request = self._queue.popleft()
            request.is_queued = False
            return [] if request.is_over(now) else [request]
        remaining: deque[_Request] = deque()
        batch: list[_Request] = []
        size = _Size()
        for request in self._queue:
            if request.is_over(now):
                continue
            if not batch or self._fits(request, batch[0], size):
                batch.append(request)
                size.add(request)
                request.is_queued = False
            else:
                remaining.append(request)
        self._queue = remaining
        return batch

    def _fits(self, request: _Request, first: _Request, size: "_Size") -> bool:
        computation, added = request.computation, request.rows
        if computation != first.computation or computation.operation == "sample":
            return False
        rows, steps = size.rows + added.count, max(size.steps, computation.steps(added))
        step = size.step_bytes if size.step_bytes.keys() >= added.values.keys() else size.step_bytes | step_bytes(added)
        return (
            rows <= self._max_rows
            and rows * steps * computation.draws <= self._max_steps
            and rows * steps * max(size.numbers, request.numbers) <= MAX_BATCH_NUMBERS
            and rows * steps * sum(step.values()) <= MAX_BYTES
        )

    async def _compute_or_split(self, batch: Sequence[_Request]) -> None:
        """Compute one batch for all requests; if that fails, compute each alone, so that only the bad ones fail."""
        if not batch:
            return
        try:
            await self._compute(batch)
        except Exception as error:
            if len(batch) == 1 or isinstance(error, ERRORS_OF_THE_WHOLE_BATCH):
                for request in batch:
                    _fail(request, error)
                return
            for request in batch:
                if not request.is_over(time.monotonic()):
                    await self._compute_or_split([request])

    async def _compute(self, batch: Sequence[_Request]) -> None:
        started_at = time.monotonic()
        states = [request.state for request in batch if request.state is not None]
        parts = [request.rows for request in batch]
        state = np.concatenate(states) if states else None
        within_seconds = max(request.deadline for request in batch) - started_at
        computed = await self._backend.compute(batch[0].computation, parts, state, within_seconds)
        seconds = time.monotonic() - started_at
        count, first = sum(part.count for part in parts), 0
        waited = started_at - batch[0].arrived_at
        metrics.count_batch(batch[0].computation.operation, len(batch), count, waited, computed.seconds)
        for request in batch:
            own = slice(first, first + request.rows.count)
            first = own.stop
            if not request.answered.done():
                queued = started_at - request.arrived_at
                request.answered.set_result(
                    Answered(_part(computed.tree, own), queued, seconds, computed.seconds, count)
                )


class _Size:
    """The size of a batch that is being selected: rows, steps of the longest, numbers and bytes for each step."""

    def __init__(self) -> None:
        self.rows = self.steps = self.numbers = 0
        self.step_bytes: dict[str, int] = {}

    def add(self, request: _Request) -> None:
        """Add one request."""
        rows = request.rows
        self.rows += rows.count
        self.steps = max(self.steps, request.computation.steps(rows))
        self.numbers = max(self.numbers, request.numbers)
        if not self.step_bytes.keys() >= rows.values.keys():
            self.step_bytes |= step_bytes(rows)


def _part(tree: Tree, rows: slice) -> dict[str, Any]:
    """The part of an answer for some of the rows; sequences stay padded to the longest of the batch."""
    return {name: item[rows] if isinstance(item, np.ndarray) else _part(item, rows) for name, item in tree.items()}


def _fail(request: _Request, error: Exception) -> None:
    if not request.answered.done():
        request.answered.set_exception(error)
