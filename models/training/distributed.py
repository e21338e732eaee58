"""Several processes that train one model, each on its part of every batch, connected by `torch.distributed`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from models.training.data import Rows

# The longest time for which ranks wait for the one that evaluates. If a rank exits, torchrun stops the others.
TIMEOUT = timedelta(days=1)


class Group:
    """`size` processes, of which this one is number `rank`; one process without `torch.distributed`."""

    def __init__(self) -> None:
        self.size = distributed.get_world_size() if _initialized() else 1
        self.rank = rank()

    def share(self, rows: Rows) -> Rows:
        """The rows of a batch that this process computes. Shares are disjoint; together they are the batch."""
        return rows[self.rank :: self.size]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process. All processes get the same answer."""
        if self.size == 1:
            return flag
        count = torch.tensor([float(flag)], device=device())
        distributed.all_reduce(count)
        return bool(count.item())


@contextmanager
def joined() -> Iterator[None]:
    """Within the context, a process that `torch.distributed.run` started belongs to that run's process group."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield
        # all processes end together: an error at the exit of one must not stop another that still evaluates
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process in its group."""
    return distributed.get_rank() if _initialized() else 0


def device() -> str:
    """The device that this process computes on."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def broadcast(text: str) -> str:
    """The text of process 0, in every process."""
    if not _initialized():
        return text
    encoded = text.encode() if rank() == 0 else b""
    length = torch.tensor([len(encoded)], device=device())
    distributed.broadcast(length, src=0)
    content = torch.zeros(int(length.item()), dtype=torch.uint8, device=device())
    if encoded:
        content.copy_(torch.frombuffer(bytearray(encoded), dtype=torch.uint8))
    distributed.broadcast(content, src=0)
    return content.cpu().numpy().tobytes().decode()


def _initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()
