"""Hoelder pooling of experts, as one Gaussian."""

import torch
from torch import Tensor

from models.experts.expert import Expert, Posterior
from models.gaussian import Gaussian

LEAST_VARIANCE = 1e-8


class HellingerExpert(Expert):
    """q(z | x) proportional to the square of the mean of sqrt(q(z | x_m)) (arXiv:2601.06572); without any, the prior.

    The square is a sum over pairs i, j of sqrt(q_i q_j), which is a Gaussian times the Bhattacharyya coefficient of
    both. The result is the Gaussian of its mean and variance, for each latent feature by itself: between a product,
    which ignores that experts disagree, and a mixture, which does not add them up.
    """

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        """One component."""
        mean, precision = experts.mean[1:], experts.precision[1:]
        both = present[1:].unsqueeze(1) & present[1:]  # (M, M, B)
        total = precision.unsqueeze(1) + precision
        of_pair = (precision * mean).unsqueeze(1) + precision * mean
        of_pair = of_pair / total
        # log of sqrt(2 s_i s_j / (s_i^2 + s_j^2)) - (m_i - m_j)^2 / 4 (s_i^2 + s_j^2)
        log_roots = precision.log().unsqueeze(1) / 4 + precision.log() / 4
        apart = (mean.unsqueeze(1) - mean).square() * (precision.unsqueeze(1) * precision) / (4 * total)
        log_weight = (log_roots - (total / 2).log() / 2 - apart).masked_fill(~both.unsqueeze(-1), -torch.inf)
        nothing = ~present[1:].any(dim=0).unsqueeze(-1)  # (B, 1)
        weight = log_weight.masked_fill(nothing, 0.0).flatten(0, 1).softmax(dim=0)
        of_pair, within = of_pair.flatten(0, 1), (2 / total).flatten(0, 1)
        pooled = (weight * of_pair).sum(dim=0)
        variance = (weight * (within + (of_pair - pooled).square())).sum(dim=0).clamp(min=LEAST_VARIANCE)
        prior = experts.mean[0], experts.precision[0]
        return Posterior.of_one(torch.where(nothing, prior[0], pooled), torch.where(nothing, prior[1], 1 / variance))
