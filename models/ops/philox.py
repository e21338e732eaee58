"""Random numbers that are a function of (seed, step, row): the counter-based generator Philox4x32-10.

A row gets the same numbers in any batch, in any process and after any number of restarts. The numbers of a sequence's
first steps do not depend on its padding. The 32-bit words, and so the uniform numbers, are the same bit for bit on any
device; normal numbers are the same to the rounding of a device's logarithm and cosine.
"""

import ctypes
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import ops
from models.ops import Backend, library

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF
# The largest float32 below 1. A larger float64 may become 1 when it is cast.
LARGEST = 1 - 2.0**-24

Rows = Tensor | NDArray[np.int64]


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32 (Salmon et al., 2011, doi:10.1145/2063384.2063405, section 3.3).

    counter: four tensors of 32-bit words as int64, which broadcast. key: two 32-bit words. Returns four such tensors.
    """
    first, second, third, fourth = torch.broadcast_tensors(*counter)
    factors, others = torch.stack([first, third]), torch.stack([second, fourth])
    broadcast = (2, *[1] * first.ndim)
    multipliers = first.new_tensor(MULTIPLIERS).view(broadcast)
    keys = first.new_tensor(
        [[low + number * step & LOW for low, step in zip(key, WEYL, strict=True)] for number in range(ROUNDS)]
    ).view(ROUNDS, *broadcast)
    for own in keys.unbind():
        # a product of two words has 64 bits: int64 wraps around, and the mask takes the sign out of its upper half
        product = (factors * multipliers).flip(0)
        factors = (product >> 32).bitwise_and_(LOW).bitwise_xor_(others).bitwise_xor_(own)
        others = product.bitwise_and_(LOW)
    return factors[0], others[0], factors[1], others[1]


class Draws:
    """The random numbers of one purpose (`stream`, below 256) at one step of a training with this seed.

    step: one for all rows, or one per row that is asked for, (B,). Rows are (B,) int64, on any device.
    """

    def __init__(self, seed: int, step: int | Rows, stream: int, backend: Backend = "auto") -> None:
        self.key = (seed & LOW, seed >> 32 & LOW)
        self.steps = torch.atleast_1d(torch.as_tensor(step)).long()
        self.stream = stream
        self.backend = backend

    def uniform(self, rows: Rows, count: int) -> Tensor:
        """`count` numbers for every row, uniform on [0, 1), also after a cast to float32: (B, count) float64."""
        words = self._words(torch.as_tensor(rows).long(), count)[:, :count]
        return words.double().mul_(2.0**-32).clamp_(max=LARGEST)

    def normal(self, rows: Rows, *shape: int) -> Tensor:
        """Numbers from N(0, 1) for every row: (B, *shape) float32, by the transform of Box and Muller."""
        count = math.prod(shape)
        words = self._words(torch.as_tensor(rows).long(), count).float()
        # the half keeps the logarithm finite: at most 6.8 standard deviations
        radius = words[:, 0::2].add(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = words[:, 1::2] * (2 * math.pi * 2.0**-32)
        numbers = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)
        return numbers[:, :count].reshape(-1, *shape)

    def _words(self, rows: Tensor, count: int) -> Tensor:
        """At least `count` words for every row, of the counters (block, row, step, stream | upper half of step << 8).

        Returns (B, 4 n) int64.
        """
        blocks = -(-count // 4)
        if ops.serves("philox", supports() or _unfit(rows), self.backend):
            return _kernel(rows, blocks, self.steps, self.stream, self.key)
        block = torch.arange(blocks, device=rows.device)
        step = self.steps.to(rows.device)[:, None]
        words = philox((block, rows[:, None], step & LOW, self.stream | step >> 32 << 8), self.key)
        return torch.stack(words, dim=-1).flatten(1)


def supports() -> str | None:
    """Why the kernel cannot serve the rows of a dataset, or None where it can. Row numbers are on the CPU always."""
    return None if library.available() else library.NOT_BUILT


def _unfit(rows: Tensor) -> str | None:
    """Why the kernel cannot compute the words of these rows, or None where it can."""
    if rows.device.type != "cpu":
        return f"the kernel runs on the CPU, the rows are on {rows.device.type}"
    return "the kernel takes row numbers below 2^32" if len(rows) and int(rows.max()) >> 32 else None


def _kernel(rows: Tensor, blocks: int, steps: Tensor, stream: int, key: tuple[int, int]) -> Tensor:
    """The words of `Draws._words` in C++. For the few numbers of one step, PyTorch takes seven times as long."""
    if len(steps) not in (1, len(rows)):
        raise ValueError(
            f"steps are given for {len(steps)} rows, expected one step or one for each of {len(rows)} rows"
        )
    words = torch.empty(len(rows), 4 * blocks, dtype=torch.int64)
    rows, steps = rows.contiguous(), steps.cpu().contiguous()
    arrays = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (rows, steps, words)]
    sizes = [ctypes.c_int64(size) for size in (len(steps) == 1, len(rows), blocks)]
    numbers = [ctypes.c_uint32(number) for number in (stream, *key)]
    library.current().sensorium_philox(*arrays[:2], *sizes, *numbers, arrays[2])
    return words
