"""The measured encoder as the peers serve it: torch alone, nothing of ours, the weights of our checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

MODALITIES = ("a", "b", "c")
FEATURES = 32
FLOOR = 1e-3  # of a standard deviation, as in our model


class Encoder:
    """q(z | x), the product of N(0, I) and a Gaussian expert for every modality that is there (arXiv:1802.05335).

    M modalities, B samples, D features, H hidden, Z latent. All modalities have the same sizes, so that one batched
    matrix product does for all of them.
    """

    def __init__(self, path: str) -> None:
        torch.set_num_threads(1)
        weights = load_file(path)

        def stacked(name: str) -> Tensor:
            return torch.stack([weights[name.format(index)] for index in range(len(MODALITIES))])

        self.offset = stacked("likelihoods.{}.offset").unsqueeze(1)  # (M, 1, D)
        self.scale = stacked("likelihoods.{}.scale").unsqueeze(1)
        self.first = stacked("encoders.{}.1.weight").mT.contiguous()  # (M, D, H)
        self.first_bias = stacked("encoders.{}.1.bias").unsqueeze(1)
        self.last = stacked("encoders.{}.3.weight").mT.contiguous()  # (M, H, 2 Z)
        self.last_bias = stacked("encoders.{}.3.bias").unsqueeze(1)

    @torch.inference_mode()
    def __call__(self, values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, (B, Z) each. values: (M, B, D) float32. present: (M, B) bool."""
        scaled = (torch.from_numpy(values) - self.offset) / self.scale
        hidden = functional.silu(torch.baddbmm(self.first_bias, scaled, self.first))
        mean, raw = torch.baddbmm(self.last_bias, hidden, self.last).chunk(2, dim=-1)
        precision = (functional.softplus(raw) + FLOOR).square().reciprocal()
        precision = torch.where(torch.from_numpy(present).unsqueeze(-1), precision, 0.0)
        total = 1 + precision.sum(dim=0)  # the prior's is 1, its mean 0
        return ((mean * precision).sum(dim=0) / total).numpy(), total.rsqrt().numpy()


def arrays(inputs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values (M, B, D) and presence (M, B) of a request's inputs: modality -> rows, some modalities left out."""
    rows = len(next(iter(inputs.values())))
    values = np.zeros((len(MODALITIES), rows, FEATURES), np.float32)
    present = np.zeros((len(MODALITIES), rows), bool)
    for index, name in enumerate(MODALITIES):
        if name in inputs:
            values[index], present[index] = inputs[name], True
    return values, present


def joined(requests: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of several requests behind one another."""
    return (
        np.concatenate([values for values, _ in requests], axis=1),
        np.concatenate([present for _, present in requests], axis=1),
    )
