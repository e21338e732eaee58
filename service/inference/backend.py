"""Where batches are computed: one interface, in front of an engine here or of workers elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from service.inference.payload import Rows
from service.inference.questions import Loadable, Question, Tree
from service.inference.values import Array
from service.shared.errors import Unavailable


class BackendAway(Unavailable):
    """Nobody is there to compute, or to say what became of a batch; it may be asked for again."""


class Computed(NamedTuple):
    """An answer about all rows of a batch, and how long the model took."""

    tree: Tree
    seconds: float


class Backend(Protocol):
    """Computes batches. Everything happens in one event loop, which never waits for a computation."""

    most_batches: int
    """How many it takes at once. What comes while they are under way joins the next."""
    slot_seconds: float | None
    """After so long a batch does not count as under way any more: who had it may be dead."""

    async def prepare(self, version: Loadable) -> None:
        """Have a version loaded, so that a batch of it does not make others wait. Raises Damaged and Exhausted."""

    async def forget(self, version: Loadable) -> None:
        """Let a version go. It comes back with the next request."""

    async def compute(
        self, question: Question, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer about the rows of all parts. Raises Damaged, Exhausted, Unavailable.

        within_seconds: after that nobody waits for it any more.
        """

    async def open(self) -> None:
        """Begin to work."""

    async def close(self) -> None:
        """Let go of threads and connections."""
