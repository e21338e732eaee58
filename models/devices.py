"""What a model can be computed on."""

import torch


def cards() -> list[str]:
    """The CUDA cards that torch sees, by name."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
