"""Bounds on the evidence of held-out rows."""

import numpy as np

from models.architectures import Model
from models.mmvae import MMVAE
from models.ops.elbo import elbo
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation.rows import batches
from models.training.objective import negative_iwae

PARTICLES = 64
NOISE = 17
"""The stream of random numbers."""


def bounds(model: Model, dataset: Dataset, rows: Rows, seed: int) -> dict[str, float]:
    """The ELBO and the importance weighted bound (arXiv:1509.00519) in nats per row, given all present values."""
    lower, iwae = 0.0, 0.0
    for targets, chunk in batches(model, dataset, rows, PARTICLES * _components(model, dataset)):
        *steps, features = model.latent_shape(targets)
        noise = Draws(seed, 0, NOISE, model.backend).normal(chunk, *steps, PARTICLES, features).movedim(-2, 0)
        noise = noise.to(next(iter(targets.present.values())).device)
        lower -= elbo(model, targets, targets, noise[0]).loss.double().sum().item()
        iwae -= negative_iwae(model.particles(targets, targets, noise)).loss.double().sum().item()
    return {"elbo": lower / len(rows), f"iwae_{PARTICLES}": iwae / len(rows)}


def _components(model: Model, dataset: Dataset) -> int:
    """The number of Gaussians in a row's posterior mixture. Each one has its own particles."""
    if not isinstance(model, MMVAE):
        return 1
    device = next(model.parameters()).device
    return len(model.posterior(data.batch_of(dataset, np.arange(1)).to(device)).weight)
