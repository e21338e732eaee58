"""Where batches are computed: one interface, for an engine in this process or for `infer` workers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable, Tree
from service.inference.rows import Rows
from service.shared.errors import Unavailable


class BackendUnavailable(Unavailable):
    """No worker computes the batch, or its answer was lost. The client may try again."""


class Computed(NamedTuple):
    """The answer for all rows of a batch, and how long the model took."""

    tree: Tree
    seconds: float


class Backend(Protocol):
    """Computes batches. Its methods run in one event loop and never block it."""

    max_batches: int
    """How many batches it computes at once. Requests that arrive meanwhile join the next batch."""
    slot_seconds: float | None
    """After this time a batch no longer counts towards `max_batches`: its worker may have been killed."""

    async def prepare(self, version: Loadable) -> None:
        """Load a version before its first batch, which would make other batches wait. Raises Damaged and Exhausted."""

    async def unload(self, version: Loadable) -> None:
        """Free the memory of a version. The next request loads it again."""

    async def compute(
        self, computation: Computation, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer for the rows of all parts. Raises Damaged, Exhausted, Unavailable.

        within_seconds: after this time no request waits for the answer.
        """

    async def open(self) -> None:
        """Start threads and connections."""

    async def close(self) -> None:
        """Stop threads and connections."""
