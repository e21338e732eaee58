"""Random numbers that are a function of (seed, step, row): the counter-based generator Philox4x32-10.

Whoever computes a row, alone or in whatever batch, in whichever process and after however many interruptions, draws
the same numbers for it. A sequence's numbers for its first steps do not depend on how far it is padded.
"""

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import ops
from models.ops import library

Words = NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
# The largest float32 below 1. A float64 above it may become 1 when it is cast.
LARGEST = 1 - 2.0**-24


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox4x32 (Salmon et al., 2011, doi:10.1145/2063384.2063405, section 3.3).

    counter: four arrays of one shape that hold 32-bit words. key: two 32-bit words. Returns four arrays of words.
    """
    first, second, third, fourth = counter
    low, high = key
    for _ in range(ROUNDS):
        left, right = first * MULTIPLIERS[0], third * MULTIPLIERS[1]
        first, second = (right >> HALF) ^ second ^ np.uint64(low), right & LOW
        third, fourth = (left >> HALF) ^ fourth ^ np.uint64(high), left & LOW
        low, high = (low + WEYL[0]) & 0xFFFFFFFF, (high + WEYL[1]) & 0xFFFFFFFF
    return first, second, third, fourth


class Draws:
    """The random numbers of one purpose (`stream`, below 256) at one step of a training with this seed.

    Or at several: an array has the step of every row (B,) that is asked for.
    """

    def __init__(self, seed: int, step: int | NDArray[np.int64], stream: int) -> None:
        self.key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self.steps = np.atleast_1d(np.asarray(step, np.int64))
        self.stream = stream

    def uniform(self, rows: NDArray[np.int64], count: int) -> Tensor:
        """`count` numbers for every row, uniform on [0, 1), also once they are cast to float32: (B, count) float64."""
        return torch.from_numpy(np.minimum(self._words(rows, count)[:, :count] * 2.0**-32, LARGEST))

    def normal(self, rows: NDArray[np.int64], *shape: int) -> Tensor:
        """Numbers from N(0, 1) for every row: (B, *shape) float32, by the transform of Box and Muller."""
        count = int(np.prod(shape))
        words = self._words(rows, count).astype(np.float32)
        # the half keeps the logarithm finite: at most 6.8 standard deviations
        radius = np.sqrt(-2 * np.log((words[:, 0::2] + np.float32(0.5)) * np.float32(2.0**-32)))
        angle = words[:, 1::2] * np.float32(2 * np.pi * 2.0**-32)
        numbers = np.empty_like(words)
        np.multiply(radius, np.cos(angle), out=numbers[:, 0::2])
        np.multiply(radius, np.sin(angle), out=numbers[:, 1::2])
        return torch.from_numpy(numbers[:, :count]).reshape(len(rows), *shape)

    def _words(self, rows: NDArray[np.int64], count: int) -> Words | NDArray[np.uint32]:
        """At least `count` words for every row: (B, 4 n)."""
        blocks = -(-count // 4)
        if (found := _kernel(rows, blocks, self.steps, self.stream, self.key)) is not None:
            return found
        steps = self.steps.astype(np.uint64)[:, None]
        counter = np.arange(blocks, dtype=np.uint64), rows.astype(np.uint64)[:, None], steps & LOW, steps >> HALF
        block, row, step, high = np.broadcast_arrays(*counter)
        stream = np.uint64(self.stream) | high << np.uint64(8)
        return np.stack(philox((block, row, step, stream), self.key), axis=-1).reshape(len(rows), 4 * blocks)


def _kernel(
    rows: NDArray[np.int64], blocks: int, steps: NDArray[np.int64], stream: int, key: tuple[int, int]
) -> NDArray[np.uint32] | None:
    """The words of `Draws._words` by the C++ kernel, or None where it does not serve; steps: (B,) or (1,)."""
    if ops.reference_selected() or not library.available():
        return None
    if not len(rows) or len(steps) not in (1, len(rows)) or int(rows.max()) >> 32:
        return None
    rows, steps = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(steps, np.int64)
    words = np.empty((len(rows), 4 * blocks), np.uint32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (rows, steps, words)]
    sizes = [ctypes.c_int64(size) for size in (len(steps) == len(rows), len(rows), blocks)]
    numbers = [ctypes.c_uint32(number) for number in (stream, *key)]
    library.current().sensorium_philox(*pointers[:2], *sizes, *numbers, pointers[2])
    return words
