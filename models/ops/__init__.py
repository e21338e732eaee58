"""Operations with more than one implementation: the PyTorch reference, and faster kernels that compute the same.

One file per operation. By default the fastest implementation that serves is used. `backend` selects one explicitly, for
tests, benchmarks and debugging.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

Backend = Literal["auto", "reference", "kernel"]

_selected: ContextVar[Backend] = ContextVar("backend", default="auto")


class KernelUnavailable(RuntimeError):
    """`backend("kernel")` is selected, and no kernel serves an operation."""


@contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Select the implementation of all operations, for this thread and within the `with` block.

    auto: a kernel where one serves, else the reference. reference: PyTorch alone. kernel: raises KernelUnavailable,
    which says why, where no kernel serves.
    """
    if name not in get_args(Backend):
        raise ValueError(f"backend {name!r} is not one of {', '.join(get_args(Backend))}")
    token = _selected.set(name)
    try:
        yield
    finally:
        _selected.reset(token)


def reference_selected() -> bool:
    """Whether no kernel is to be used."""
    return _selected.get() == "reference"


def serves(operation: str, reason: str | None) -> bool:
    """Whether the kernel of an operation is to be used. reason: why it cannot serve, or None where it can.

    Raises KernelUnavailable.
    """
    selected = _selected.get()
    if reason is not None and selected == "kernel":
        raise KernelUnavailable(f"no kernel serves {operation}: {reason}")
    return reason is None and selected != "reference"
