"""A linear Gaussian VAE whose posterior is exact: its evidence, moments and shares have closed forms."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import MLPConfig, MMVAEConfig, ModalityConfig
from models.gaussian import FLOOR
from models.mmvae import MMVAE
from models.training.dataset import Dataset

# z ~ N(0, 1), x given z ~ N(OFFSET + WEIGHT z, DEVIATION^2)
WEIGHT, OFFSET, DEVIATION = 2.0, 1.0, 0.5
# 1 / (variance of q(z | x)): the prior's precision plus the expert's
EXPERT_PRECISION = (WEIGHT / DEVIATION) ** 2
PRECISION = 1 + EXPERT_PRECISION
# deviations of experts that say nothing: of precision 1e-6
SILENT = 1e3


def raw_deviation(deviation: float) -> float:
    """The inverse of softplus(raw) + FLOOR."""
    return math.log(math.expm1(deviation - FLOOR)) if deviation < 20 else deviation


def model(silent_features: int = 0) -> MMVAE:
    """The model of x, of shape (1,). silent_features: further latent features, which neither network uses."""
    latent = 1 + silent_features
    x = ModalityConfig(name="x", shape=(1,), likelihood="gaussian", scale=DEVIATION)
    found = MMVAE(MMVAEConfig(modalities=(x,), latent_features=latent, network=MLPConfig(hidden_features=())))
    encoder, decoder = (
        next(layer for layer in half.modules() if isinstance(layer, torch.nn.Linear))
        for half in (found.encoders[0], found.decoders[0])
    )
    with torch.no_grad():
        for layer in (encoder, decoder):
            layer.weight.zero_()
            layer.bias.zero_()
        # the expert is N((x - OFFSET) / WEIGHT, (DEVIATION / WEIGHT)^2)
        encoder.weight[0, 0], encoder.bias[0] = 1 / WEIGHT, -OFFSET / WEIGHT
        encoder.bias[latent:] = SILENT
        encoder.bias[latent] = raw_deviation(DEVIATION / WEIGHT)
        decoder.weight[0, 0], decoder.bias[0] = WEIGHT, OFFSET
    return found.eval()


def dataset(rows: int = 400) -> Dataset:
    """Draws from the model."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(rows, 1))
    return Dataset.from_arrays({"x": OFFSET + WEIGHT * z + DEVIATION * generator.normal(size=(rows, 1))})


def posterior_mean(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of q(z | x) of each row: (N,)."""
    return EXPERT_PRECISION * (x[:, 0].astype(np.float64) - OFFSET) / WEIGHT / PRECISION
