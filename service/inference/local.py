"""Batches computed by an engine in this process: short ones at once, others in a thread of their own."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

from service.inference.backend import Computed
from service.inference.engine import Engine
from service.inference.payload import Rows
from service.inference.questions import Loadable, Question, merged
from service.inference.sizes import draws_of
from service.inference.values import Array

# A batch that takes no longer is not worth a thread: handing the interpreter back and forth costs several times that.
# It is also the longest that health and CRUD wait for a batch.
SHORT_SECONDS = 0.005
# Calling a model at all takes about as long as these many rows of a small one.
OVERHEAD_ROWS = 32
MOST_REMEMBERED = 10_000


class LocalBackend:
    """One thread computes and another loads, so that health, CRUD and loaded versions wait for neither."""

    most_batches = 1
    slot_seconds: float | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._paces: OrderedDict[Hashable, float] = OrderedDict()

    async def prepare(self, version: Loadable) -> None:
        """Load a version unless it is there."""
        if not self._engine.holds(version):
            await asyncio.get_running_loop().run_in_executor(self._loading, self._engine.load, version)

    async def forget(self, version: Loadable) -> None:
        """Let a version go."""
        self._engine.forget(version)

    async def compute(
        self, question: Question, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer of the engine in this process."""
        if self._will_be_short(question, parts) and self._engine.holds(question.version):
            computed = self._compute(question, parts, state)
        else:
            loop = asyncio.get_running_loop()
            computed = await loop.run_in_executor(self._computing, self._compute, question, parts, state)
        self.remember(question, parts, computed.seconds)
        return computed

    def remember(self, question: Question, parts: Sequence[Rows], seconds: float) -> None:
        """How long a batch took, to tell how long the next will."""
        asked = _asked(question, parts)
        self._paces[asked] = seconds / _work(question, parts)
        self._paces.move_to_end(asked)
        if len(self._paces) > MOST_REMEMBERED:
            self._paces.popitem(last=False)

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

    def _will_be_short(self, question: Question, parts: Sequence[Rows]) -> bool:
        """Whether a batch is, by the pace of the last one like it. What was never computed yet is not."""
        pace = self._paces.get(_asked(question, parts))
        return pace is not None and pace * _work(question, parts) < SHORT_SECONDS


def _asked(question: Question, parts: Sequence[Rows]) -> Hashable:
    """What makes batches alike but for their rows and steps: which networks run, and how often each.

    An image takes longer than a label, and what is drawn a thousand times says nothing about how long encoding takes.
    """
    given = frozenset().union(*(rows.values for rows in parts))
    arguments = question.arguments
    often = arguments.get("n_samples"), arguments.get("horizon")
    return question.version.id, question.operation, given, tuple(arguments.get("targets", ())), often


def _work(question: Question, parts: Sequence[Rows]) -> float:
    """How much a batch is, in rows, steps and draws. What every batch costs counts as some rows.

    A forecast goes through what is given once, and from there on as often as it draws.
    """
    steps = max(rows.steps for rows in parts)
    draws, horizon = draws_of(question), int(question.arguments.get("horizon", 0))
    each = steps + horizon * draws if horizon else max(steps, int(question.arguments.get("steps") or 1)) * draws
    return OVERHEAD_ROWS + sum(rows.count for rows in parts) * each
