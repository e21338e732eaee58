"""Ways of joining posteriors, and mixtures of Gaussians beside their moments."""

import pytest
import torch

from models import experts
from models.experts import Posterior
from models.gaussian import Gaussian


def _mixture() -> Posterior:
    components = Gaussian(torch.tensor([[[0.0]], [[4.0]]]), torch.tensor([[[1.0]], [[2.0]]]))
    return Posterior(components, torch.tensor([[0.25], [0.75]]))


def test_the_product_counts_the_prior_as_expert_0() -> None:
    expert = experts.build("product", modalities=1, latent_features=1)
    prior_and_one = Gaussian(torch.tensor([[[0.0]], [[2.0]]]), torch.ones(2, 1, 1))
    posterior = expert(prior_and_one, torch.ones(2, 1, dtype=torch.bool))
    assert posterior.moments().mean.item() == pytest.approx(1)
    assert posterior.moments().standard_deviation.item() == pytest.approx(0.5**0.5)
    assert posterior.weight.tolist() == [[1.0]]


def test_without_any_modality_the_product_is_the_prior() -> None:
    expert = experts.build("product", modalities=2, latent_features=3)
    members = Gaussian(torch.randn(3, 2, 3), torch.rand(3, 2, 3) + 0.1)
    posterior = expert(members, torch.tensor([[True, True], [False, False], [False, False]]))
    torch.testing.assert_close(posterior.moments().mean, members.mean[0])
    torch.testing.assert_close(posterior.moments().standard_deviation, members.standard_deviation[0])


def test_a_mixture_s_moments_follow_the_law_of_total_variance() -> None:
    moments = _mixture().moments()
    assert moments.mean.item() == pytest.approx(3.0)
    assert moments.standard_deviation.square().item() == pytest.approx(0.25 * 1 + 0.75 * 4 + 0.25 * 9 + 0.75 * 1)


def test_draws_are_spread_over_the_components_by_weight() -> None:
    drawn = _mixture().draw(torch.zeros(8, 1, 1))
    assert drawn.flatten().tolist() == [0.0, 0.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
