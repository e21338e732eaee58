"""Hölder pooling of experts, as one Gaussian."""

import torch
from torch import Tensor

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian


class HellingerExpert(Expert):
    """The Gaussian with the moments of the density proportional to (mean of sqrt(q(z_d | x_m)))^2 (arXiv:2601.06572).

    The mean is over the present modalities m, and each latent feature d is pooled by itself. The square is a sum over
    pairs of modalities: the product of two roots is a Gaussian, times the Bhattacharyya coefficient of both. So the
    result is never sharper than its sharpest member. Without any modality it is the prior.
    """

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component. A pair is a place in the first two of the axes (M, M, B, Z)."""
        mean, precision = experts.mean[1:], experts.precision[1:]
        both = (present[1:].unsqueeze(1) & present[1:]).unsqueeze(-1)  # (M, M, B, 1)
        total = precision.unsqueeze(1) + precision
        pair_mean = ((precision * mean).unsqueeze(1) + precision * mean) / total
        pair_variance = 2 / total
        # sqrt(2 sqrt(p_i p_j) / (p_i + p_j)) exp(-p_i p_j (m_i - m_j)^2 / (4 (p_i + p_j)))
        product = precision.unsqueeze(1) * precision
        apart = product * (mean.unsqueeze(1) - mean).square() / (4 * total)
        log_weight = product.log() / 4 - (total / 2).log() / 2 - apart
        nothing = ~present[1:].any(dim=0).unsqueeze(-1)  # (B, 1)
        weight = log_weight.masked_fill(~both, -torch.inf).masked_fill(nothing, 0.0).flatten(0, 1).softmax(dim=0)
        pair_mean, pair_variance = pair_mean.flatten(0, 1), pair_variance.flatten(0, 1)
        pooled = (weight * pair_mean).sum(dim=0)
        variance = (weight * (pair_variance + (pair_mean - pooled).square())).sum(dim=0)
        return Posterior.of_one(
            torch.where(nothing, experts.mean[0], pooled), torch.where(nothing, experts.precision[0], 1 / variance)
        )
