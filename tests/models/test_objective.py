"""The evidence bound: sums and averages."""

import pytest
import torch

from models.multimodal import Terms
from models.objective import negative_elbo

TERMS = Terms({"a": torch.tensor([-1.0, -3.0]), "b": torch.tensor([0.0, -4.0])}, torch.tensor([2.0, 4.0]))


def test_likelihoods_and_divergence_alike_are_averaged_over_samples() -> None:
    objective = negative_elbo(TERMS, beta=0.5)
    assert objective.log_likelihood["a"].item() == pytest.approx(-2)
    assert objective.log_likelihood["b"].item() == pytest.approx(-2)
    assert objective.kl.item() == pytest.approx(3)
    assert objective.loss.item() == pytest.approx(4 + 0.5 * 3)


def test_beta_means_the_same_at_any_batch_size() -> None:
    twice = Terms({name: value.repeat(2) for name, value in TERMS.log_likelihood.items()}, TERMS.kl.repeat(2))
    assert negative_elbo(twice, 0.7).loss.item() == pytest.approx(negative_elbo(TERMS, 0.7).loss.item())
