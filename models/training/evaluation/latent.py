"""KL divergence and activity of a model's latent features, and the share of each expert in the joint precision."""

from typing import Any

import torch

from models.architectures import Model
from models.ops.elbo import terms
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation.rows import batches

# A latent feature is active if the variance of its posterior mean over the data is above this (arXiv:1509.00519, 5.2).
ACTIVE_VARIANCE = 0.01


def latent_features(model: Model, dataset: Dataset, rows: Rows) -> tuple[list[dict[str, Any]], dict[str, float] | None]:
    """KL divergence in nats and activity of each latent feature, and the mean share of each expert.

    The inputs are all present values of a row; means are over rows and steps. The shares are in the joint precision;
    None for a posterior that is not a product.
    """
    count = 0
    device = next(model.parameters()).device
    kl, total, squares = torch.zeros(3, model.latent_features, dtype=torch.float64, device=device)
    shares: dict[str, float] = {}
    for targets, _ in batches(model, dataset, rows, draws=1):
        divergence = terms(model, targets, targets, None).kl.flatten(0, -2)
        mean = model.encode(targets).mean.flatten(0, -2)
        if targets.lengths is not None:
            divergence, mean = divergence[targets.valid.flatten()], mean[targets.valid.flatten()]
        count += len(divergence)
        kl += divergence.double().sum(dim=0)
        total += mean.double().sum(dim=0)
        squares += mean.double().square().sum(dim=0)
        for name, share in (model.expert_shares(targets) or {}).items():
            shares[name] = shares.get(name, 0.0) + share.double().sum().item() / len(rows)
    variance = squares / count - (total / count) ** 2
    features = [
        {"kl": float(divergence), "active": bool(varies > ACTIVE_VARIANCE)}
        for divergence, varies in zip(kl / count, variance, strict=True)
    ]
    return features, shares or None
