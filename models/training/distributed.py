"""The processes that train one model together, each on its share of every batch. One process is a group too."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from models.training.data import Rows

# Whoever dies ends the others at once; this only bounds how long the rest wait for the one that evaluates.
PATIENCE = timedelta(days=1)


class Group:
    """`size` processes, of which this is number `rank`, connected by `torch.distributed` when there are several."""

    def __init__(self) -> None:
        self.size = distributed.get_world_size() if _together() else 1
        self.rank = rank()

    def share(self, rows: Rows) -> Rows:
        """The part of a batch that this process computes; no two processes' parts overlap."""
        return rows[self.rank :: self.size]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def any(self, mine: bool) -> bool:
        """Whether it is so in any process: they must agree on when to stop."""
        if self.size == 1:
            return mine
        count = torch.tensor([float(mine)], device=device())
        distributed.all_reduce(count)
        return bool(count.item())


@contextmanager
def joined() -> Iterator[None]:
    """Within it this process is one of those that `torch.distributed.run` has started, if it was."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
        # All leave together: what goes wrong while one ends must not stop another that still evaluates.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number in its group."""
    return distributed.get_rank() if _together() else 0


def device() -> str:
    """What this process computes on."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def read_spec() -> str:
    """The first line of standard input, which all processes of a group share: the first one reads it for all."""
    if not _together():
        return sys.stdin.readline()
    line = sys.stdin.readline().encode() if rank() == 0 else b""
    length = torch.tensor([len(line)], device=device())
    distributed.broadcast(length, src=0)
    text = torch.zeros(int(length.item()), dtype=torch.uint8, device=device())
    if rank() == 0:
        text.copy_(torch.frombuffer(bytearray(line), dtype=torch.uint8))
    distributed.broadcast(text, src=0)
    return text.cpu().numpy().tobytes().decode()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
