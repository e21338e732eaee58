"""Batches computed by an engine in this process: short ones in the event loop, others in a thread."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

from service.inference.backend import Computed
from service.inference.engine import Engine
from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable
from service.inference.rows import Rows, merged

# A shorter batch is computed in the event loop: to hand the interpreter lock to a thread and back costs several times
# that. It is also the longest that health and CRUD wait for a batch.
SHORT_SECONDS = 0.005
# A call of the model takes about as long as this many rows of a small model.
OVERHEAD_ROWS = 32
MAX_REMEMBERED = 10_000


class LocalBackend:
    """One thread computes and another loads, so that health, CRUD and loaded versions wait for neither."""

    max_batches = 1
    slot_seconds: float | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._seconds_per_row: OrderedDict[Hashable, float] = OrderedDict()

    async def prepare(self, version: Loadable) -> None:
        """Load a version unless it is loaded."""
        if not self._engine.holds(version):
            await asyncio.get_running_loop().run_in_executor(self._loading, self._engine.load, version)

    async def unload(self, version: Loadable) -> None:
        """Free the memory of a version."""
        self._engine.unload(version)

    async def compute(
        self, computation: Computation, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer of the engine in this process."""
        if self.is_short(computation, parts) and self._engine.holds(computation.version):
            computed = self._compute(computation, parts, state)
        else:
            loop = asyncio.get_running_loop()
            computed = await loop.run_in_executor(self._computing, self._compute, computation, parts, state)
        self.remember(computation, parts, computed.seconds)
        return computed

    def is_short(self, computation: Computation, parts: Sequence[Rows]) -> bool:
        """Whether a batch will be short, by the last batch of its kind. The first batch of a kind is not."""
        seconds_per_row = self._seconds_per_row.get(_kind(computation, parts))
        return seconds_per_row is not None and seconds_per_row * _work(computation, parts) < SHORT_SECONDS

    def remember(self, computation: Computation, parts: Sequence[Rows], seconds: float) -> None:
        """Record how long a batch took, to predict how long the next one takes."""
        kind = _kind(computation, parts)
        self._seconds_per_row[kind] = seconds / _work(computation, parts)
        self._seconds_per_row.move_to_end(kind)
        if len(self._seconds_per_row) > MAX_REMEMBERED:
            self._seconds_per_row.popitem(last=False)

    async def open(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Finish the batch under way; drop the others."""
        for pool in (self._computing, self._loading):
            pool.shutdown(cancel_futures=True)

    def _compute(self, computation: Computation, parts: Sequence[Rows], state: Array | None) -> Computed:
        started_at = time.monotonic()
        tree = self._engine.answer(computation, merged(parts), state)
        return Computed(tree, time.monotonic() - started_at)


def _kind(computation: Computation, parts: Sequence[Rows]) -> Hashable:
    """Batches of one kind differ in rows and steps alone: they run the same networks equally often.

    An image takes longer than a label, and a reconstruction of 1000 draws does not predict how long encoding takes.
    """
    modalities = frozenset().union(*(rows.values for rows in parts))
    arguments = computation.arguments
    repeats = arguments.get("n_samples"), arguments.get("draws"), arguments.get("horizon")
    return computation.version.id, computation.operation, modalities, tuple(arguments.get("targets", ())), repeats


def _work(computation: Computation, parts: Sequence[Rows]) -> float:
    """The size of a batch in rows x steps x draws, plus the constant cost of a batch.

    A forecast computes the given steps once, and the steps of its horizon for every draw.
    """
    steps = max(rows.steps for rows in parts)
    draws, horizon = computation.draws, int(computation.arguments.get("horizon", 0))
    if horizon:
        steps += horizon * draws
    else:
        steps = max(steps, int(computation.arguments.get("steps") or 1)) * draws
    return OVERHEAD_ROWS + sum(rows.count for rows in parts) * steps
