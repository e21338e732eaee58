"""The evidence lower bound over presence: what is summed and what is averaged."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.multimodal import Terms


class Objective(NamedTuple):
    """Scalars in nats per sample. loss = -sum over m of log_likelihood[m] + beta kl."""

    loss: Tensor
    log_likelihood: dict[str, Tensor]
    kl: Tensor


def negative_elbo(terms: Terms, beta: float) -> Objective:
    """-E_q[sum_m log p(x_m | z)] + beta KL(q(z | x) || p(z)) (arXiv:1312.6114, eq. 3; beta: Higgins et al., 2017).

    Log-likelihood and KL alike arrive summed over dimensions and time, (B,) each, and are averaged over the B samples
    here; beta therefore means the same at any batch size and length. A sample that lacks a target adds 0 for it and
    still counts among the B.
    """
    log_likelihood = {name: value.mean() for name, value in terms.log_likelihood.items()}
    kl = terms.kl.mean()
    reconstruction = torch.stack(list(log_likelihood.values())).sum()
    return Objective(beta * kl - reconstruction, log_likelihood, kl)
