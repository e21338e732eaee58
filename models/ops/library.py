"""The shared library of the C++ kernels: found, loaded, and its absence explained.

The library is plain C++ behind C pointers. It needs no headers of Python or torch and fits any version of them.
`models/ops/build.py` compiles one for each kind of processor.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch

from models.ops.build import library

NOT_BUILT = "the kernels are not built (make kernels)"


def _load(path: Path) -> ctypes.CDLL | None:
    return ctypes.CDLL(str(path)) if path.exists() else None


_loaded = _load(library(torch.backends.cpu.get_cpu_capability())) or _load(library("DEFAULT"))


def available() -> bool:
    """Whether the library is loaded."""
    return _loaded is not None


def current() -> ctypes.CDLL:
    """The library. Call it only where `available`."""
    return cast(ctypes.CDLL, _loaded)


def path() -> Path | None:
    """The file of the library, or None where it is not built."""
    return None if _loaded is None else Path(_loaded._name)


@contextmanager
def using(path: Path | None) -> Iterator[None]:
    """Within the context, use the library at this path in the whole process; None: as if it were not built."""
    global _loaded
    before = _loaded
    _loaded = None if path is None else ctypes.CDLL(str(path))
    try:
        yield
    finally:
        _loaded = before
