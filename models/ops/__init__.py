"""Operations with more than one implementation: the PyTorch reference, and faster kernels that compute the same.

One file per operation. By default the fastest implementation that serves is used. A model's `backend` selects one
explicitly, for tests, benchmarks and debugging.
"""

from typing import Literal, get_args

Backend = Literal["auto", "reference", "kernel"]
"""auto: a kernel where one serves, else the reference. reference: PyTorch alone. kernel: where no kernel serves, the
operation raises KernelUnavailable with the reason."""


class KernelUnavailable(RuntimeError):
    """The backend is "kernel", and no kernel serves an operation."""


def checked(backend: Backend) -> Backend:
    """The backend of this name. Raises ValueError."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(get_args(Backend))}")
    return backend


def serves(operation: str, reason: str | None, backend: Backend) -> bool:
    """Whether the kernel of an operation is to be used. reason: why it cannot serve, or None where it can.

    Raises KernelUnavailable.
    """
    if reason is not None and backend == "kernel":
        raise KernelUnavailable(f"no kernel serves {operation}: {reason}")
    return reason is None and backend != "reference"
