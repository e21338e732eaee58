"""The devices that models are computed on: cards, threads and memory."""

import torch
from threadpoolctl import threadpool_limits


def cards() -> list[str]:
    """The CUDA cards that torch sees, by name."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def use_threads(count: int) -> None:
    """Compute with this many processor threads, in this whole process."""
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")  # NumPy's


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error means that the host or a card has too little memory. torch raises several types for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
