"""Ways of joining posteriors, and mixtures of Gaussians beside their moments."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from models import experts, gaussian
from models.architectures import build
from models.config import MLPConfig, MMVAEConfig, MMVAEOptions, ModalityConfig
from models.config.architecture import BUILT_IN_EXPERTS
from models.experts import Posterior
from models.experts.weighted_product import WeightedProductOfExperts
from models.gaussian import Gaussian
from models.io import checkpoint
from tests.models.small import MODALITIES, only, rows_of, static_batch, without

PRIOR_AND_TWO = Gaussian(torch.tensor([[[0.0]], [[2.0]], [[4.0]]]), torch.tensor([[[1.0]], [[0.5]], [[1.0]]]))


def _present(*modalities: bool) -> torch.Tensor:
    return torch.tensor([[True], *[[here] for here in modalities]])


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


def test_a_weighted_product_starts_as_the_plain_one() -> None:
    weighted = experts.build("weighted_product", modalities=2, latent_features=1)(PRIOR_AND_TWO, _present(True, True))
    plain = experts.build("product", modalities=2, latent_features=1)(PRIOR_AND_TWO, _present(True, True))
    torch.testing.assert_close(weighted.moments(), plain.moments())


def test_a_weight_multiplies_its_expert_s_precision_and_is_learned() -> None:
    expert = experts.build("weighted_product", modalities=2, latent_features=1)
    assert isinstance(expert, WeightedProductOfExperts)
    with torch.no_grad():
        expert.raw_weight[0] = math.log(math.expm1(3.0))
    moments = expert(PRIOR_AND_TWO, _present(True, True)).moments()
    # precisions 1, 3 * 4 and 1
    assert moments.standard_deviation.item() == pytest.approx(14**-0.5)
    assert moments.mean.item() == pytest.approx((12 * 2 + 4) / 14)
    moments.mean.sum().backward()
    assert expert.raw_weight.grad is not None
    # d mean / d w = precision (mean of the expert - mean) / total precision, d w / d raw = sigmoid(raw)
    slopes = [4 * (2 - 2) / 14 * (1 - math.exp(-3)), 1 * (4 - 2) / 14 * (1 - math.exp(-1))]
    assert expert.raw_weight.grad.flatten().tolist() == pytest.approx(slopes, abs=1e-7)


def test_a_mixture_gives_present_modalities_the_same_weight_and_the_prior_none() -> None:
    expert = experts.build("mixture", modalities=2, latent_features=1)
    assert expert(PRIOR_AND_TWO, _present(True, True)).weight.flatten().tolist() == [0, 0.5, 0.5]
    assert expert(PRIOR_AND_TWO, _present(False, True)).weight.flatten().tolist() == [0, 0, 1]
    assert expert(PRIOR_AND_TWO, _present(False, False)).weight.flatten().tolist() == [1, 0, 0]


def test_a_mixture_of_products_covers_the_subsets_of_present_modalities() -> None:
    expert = experts.build("mixture_of_products", modalities=2, latent_features=1)
    posterior = expert(PRIOR_AND_TWO, _present(True, True))
    assert posterior.weight.flatten().tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    for component, members in enumerate([(), (1,), (2,), (1, 2)]):
        mask = torch.tensor([[True], [1 in members], [2 in members]])
        mean, precision = gaussian.product_of_experts(PRIOR_AND_TWO.mean, PRIOR_AND_TWO.precision, mask)
        torch.testing.assert_close(posterior.components.mean[component], mean)
        torch.testing.assert_close(posterior.components.standard_deviation[component], precision.rsqrt())
    assert expert(PRIOR_AND_TWO, _present(True, False)).weight.flatten().tolist() == [0, 1, 0, 0]
    assert expert(PRIOR_AND_TWO, _present(False, False)).weight.flatten().tolist() == [1, 0, 0, 0]


def test_hellinger_has_the_moments_of_the_squared_mean_of_roots() -> None:
    members = Gaussian(torch.tensor([0.0, 2.0, 4.0, 3.0])[:, None, None], torch.tensor([1, 0.5, 1, 2])[:, None, None])
    expert = experts.build("hellinger", modalities=3, latent_features=1)
    z = torch.linspace(-20, 25, 100_001, dtype=torch.float64)
    roots = [
        torch.distributions.Normal(mean, spread).log_prob(z).div(2).exp() for mean, spread in ((2, 0.5), (4, 1), (3, 2))
    ]
    for given in ((0, 1), (0, 1, 2)):
        density = torch.stack([roots[number] for number in given]).sum(dim=0).square()
        density = density / density.sum()
        mean = (density * z).sum()
        moments = expert(members, _present(*(number in given for number in range(3)))).moments()
        assert moments.mean.item() == pytest.approx(float(mean), abs=1e-4)
        assert moments.standard_deviation.square().item() == pytest.approx(
            float((density * (z - mean).square()).sum()), abs=1e-4
        )


def test_hellinger_has_finite_gradients_also_of_experts_far_apart_and_of_a_row_without_any() -> None:
    mean = torch.tensor([[0.0, 0.0], [1e3, 1.0], [-1e3, 2.0]]).unsqueeze(-1).requires_grad_()
    deviation = torch.full((3, 2, 1), 1e-3).requires_grad_()
    present = torch.tensor([[True, True], [True, False], [True, False]])
    moments = experts.build("hellinger", 2, 1)(Gaussian(mean, deviation), present).moments()
    (moments.mean + moments.standard_deviation).sum().backward()
    assert mean.grad is not None
    assert deviation.grad is not None
    assert bool(mean.grad.isfinite().all() & deviation.grad.isfinite().all())


def test_hellinger_of_one_modality_is_its_own_posterior() -> None:
    expert = experts.build("hellinger", modalities=2, latent_features=1)
    moments = expert(PRIOR_AND_TWO, _present(False, True)).moments()
    assert (moments.mean.item(), moments.standard_deviation.item()) == (pytest.approx(4), pytest.approx(1))


@pytest.mark.parametrize("name", BUILT_IN_EXPERTS)
def test_every_expert_has_the_properties_that_models_need(name: str) -> None:
    """Hiding equals not having; rows do not depend on each other; the weights of a row sum to one."""
    torch.manual_seed(0)
    config = MMVAEConfig(modalities=MODALITIES, latent_features=4, expert=name, network=MLPConfig(hidden_features=(8,)))
    model, batch = build(config).eval(), static_batch()
    torch.testing.assert_close(model.encode(only(batch, "audio")), model.encode(without(batch, "face", "word")))
    together, alone = model.encode(batch), model.encode(rows_of(batch, [4]))
    torch.testing.assert_close(together.mean[4], alone.mean[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.posterior(batch).weight.sum(dim=0), torch.ones(6))
    terms = model.terms(only(batch, "word"), batch, torch.zeros(6, 4))
    assert (terms.kl >= 0).all()
    assert all(value.isfinite().all() for value in terms.log_likelihood.values())
    nothing = model.encode(only(batch))
    torch.testing.assert_close(nothing.mean, torch.zeros(6, 4))
    torch.testing.assert_close(nothing.standard_deviation, torch.ones(6, 4))


@pytest.mark.parametrize("name", BUILT_IN_EXPERTS)
def test_every_expert_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    config = MMVAEConfig(modalities=MODALITIES, latent_features=4, expert=name, network=MLPConfig(hidden_features=(8,)))
    model = build(config).eval()
    checkpoint.save(model, tmp_path / "m", {})
    loaded = checkpoint.load(tmp_path / "m").encode(static_batch())
    torch.testing.assert_close(loaded, model.encode(static_batch()), rtol=0, atol=0)


def test_an_unknown_expert_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValidationError, match="only hellinger, mixture, mixture_of_products, product, weighted_product"
    ):
        MMVAEOptions(expert="oracle")


def test_a_mixture_of_too_many_products_is_refused() -> None:
    many = tuple(ModalityConfig(name=f"m{i}", shape=(1,), likelihood="gaussian") for i in range(7))
    with pytest.raises(ValidationError, match="there are 7, expected at most 6"):
        MMVAEConfig(modalities=many, expert="mixture_of_products")
