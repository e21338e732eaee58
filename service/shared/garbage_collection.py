"""Python's garbage collector, told what it need not look at."""

import gc
import sys

_modules = 0


def settle() -> None:
    """What was imported by now lives as long as the process: leave all that is there alone from now on.

    The collector would look through it whenever some hundred objects are new. With PyTorch that took 50 ms, three times
    a second under load. Does nothing when nothing was imported since it was called last.
    """
    global _modules
    if len(sys.modules) != _modules:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
