"""Verifies an imported checkpoint before anything uses it."""

from pathlib import Path

import torch

from models.architectures import build
from models.config import MMVAEConfig, MMVRNNConfig
from models.io import checkpoint
from models.io.checkpoint import CheckpointError


def verify(path: Path) -> MMVAEConfig | MMVRNNConfig:
    """Check that the weights fit the config in names, shapes and types, and are finite. Returns the config.

    Ignores extra tensors. Raises CheckpointError.
    """
    model = checkpoint.load(path)
    with torch.device("meta"):
        expected = build(model.config).state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.dtype != expected[name].dtype:
            raise CheckpointError(f"{path.name}: {name} is of {tensor.dtype}, expected {expected[name].dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path.name}: {name} has numbers that are not finite")
    return model.config
