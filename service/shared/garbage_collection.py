"""Excludes long-lived objects from Python's garbage collection."""

import gc
import sys

_modules = 0


def freeze() -> None:
    """Exclude all current objects from future collections; imported modules live as long as the process.

    A full collection of PyTorch's objects took 50 ms, three times per second under load. Does nothing if no module was
    imported since the last call.
    """
    global _modules
    if len(sys.modules) != _modules:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
