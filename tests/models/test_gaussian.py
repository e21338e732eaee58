"""Densities, divergences and products beside their closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from models import gaussian
from models.gaussian import Gaussian


def _random(*shape: int, seed: int = 0) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) + 0.1)


def _product(experts: Gaussian, present: torch.Tensor) -> Gaussian:
    mean, precision = gaussian.product_of_experts(experts.mean, experts.precision, present)
    return Gaussian(mean, precision.rsqrt())


def test_three_unit_variance_experts_have_variance_one_third_and_the_mean_of_their_means() -> None:
    experts = Gaussian(torch.tensor([[[1.0]], [[2.0]], [[6.0]]]), torch.ones(3, 1, 1))
    joint = _product(experts, torch.ones(3, 1, dtype=torch.bool))
    assert joint.standard_deviation.square().item() == pytest.approx(1 / 3)
    assert joint.mean.item() == pytest.approx(3)


def test_precision_is_one_over_the_variance() -> None:
    experts = Gaussian(torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[1.0]], [[0.5]]]))
    joint = _product(experts, torch.ones(2, 1, dtype=torch.bool))
    # precisions 1 and 4
    assert joint.mean.item() == pytest.approx(4 / 5)
    assert joint.standard_deviation.item() == pytest.approx(math.sqrt(1 / 5))


def test_an_absent_expert_is_as_if_it_were_not_there() -> None:
    experts = _random(3, 4, 2)
    present = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    kept = Gaussian(*(part[[0, 2]] for part in experts))
    masked, without = _product(experts, present), _product(kept, present[[0, 2]])
    torch.testing.assert_close(masked, without)


def test_a_product_of_no_experts_is_flat_and_gives_no_gradient() -> None:
    mean, precision = torch.randn(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    joint = torch.cat(gaussian.product_of_experts(mean, precision, torch.zeros(2, dtype=torch.bool)))
    assert not joint.any()
    for gradient in torch.autograd.grad(joint.sum(), [mean, precision]):
        assert not gradient.any()


def test_products_are_associative() -> None:
    experts = _random(3, 4, 2)
    mean, precision = gaussian.product_of_experts(experts.mean[1:], experts.precision[1:])
    mean, precision = (torch.stack(pair) for pair in ((experts.mean[0], mean), (experts.precision[0], precision)))
    together = gaussian.product_of_experts(experts.mean, experts.precision)
    torch.testing.assert_close(gaussian.product_of_experts(mean, precision), together)


def test_shares_are_precisions_over_their_sum() -> None:
    precision = torch.tensor([[[1.0, 2.0]], [[3.0, 2.0]], [[4.0, 8.0]]])
    present = torch.tensor([[True], [True], [False]])
    assert gaussian.precision_shares(precision, present).flatten().tolist() == pytest.approx([0.375, 0.625, 0])


def test_the_product_s_density_is_the_normalised_product_of_densities() -> None:
    experts = _random(3, 1, 1, seed=3)
    joint = _product(experts, torch.ones(3, 1, dtype=torch.bool))
    grid = torch.linspace(-20, 20, 40_001)
    log_product = sum(Normal(m.item(), s.item()).log_prob(grid) for m, s in zip(*experts, strict=True))
    density = log_product.exp() / torch.trapezoid(log_product.exp(), grid)
    expected = Normal(joint.mean.item(), joint.standard_deviation.item()).log_prob(grid).exp()
    torch.testing.assert_close(density, expected, atol=1e-4, rtol=1e-3)


@settings(deadline=None)
@given(
    mean=st.floats(-3, 3), deviation=st.floats(0.05, 3), other_mean=st.floats(-3, 3), other_deviation=st.floats(0.05, 3)
)
def test_the_divergence_is_the_textbook_s(
    mean: float, deviation: float, other_mean: float, other_deviation: float
) -> None:
    q = Gaussian(torch.tensor([mean]), torch.tensor([deviation]))
    p = Gaussian(torch.tensor([other_mean]), torch.tensor([other_deviation]))
    expected = torch_kl(Normal(*q), Normal(*p))
    torch.testing.assert_close(gaussian.kl_divergence(q, p), expected, atol=1e-4, rtol=1e-4)


def test_the_divergence_is_of_every_dimension_and_zero_between_equals() -> None:
    q = _random(5, 3)
    assert gaussian.kl_divergence(q, q).abs().max().item() < 1e-6
    torch.testing.assert_close(
        gaussian.kl_divergence(q, gaussian.standard(q.mean)), torch_kl(Normal(*q), Normal(0.0, 1.0))
    )


def test_the_log_density_is_the_textbook_s() -> None:
    parameters, value = _random(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(gaussian.log_density(value, parameters), Normal(*parameters).log_prob(value))


def test_deviations_stay_positive_for_any_network_output() -> None:
    raw = torch.tensor([[0.0, -1e6], [0.0, 1e6], [0.0, 0.0]])
    deviation = gaussian.from_raw(raw).standard_deviation
    assert (deviation >= gaussian.FLOOR).all()
    assert deviation.isfinite().all()
    assert deviation[2].item() == pytest.approx(math.log(2) + gaussian.FLOOR)


def test_zero_noise_draws_the_mean() -> None:
    parameters = _random(2, 3)
    torch.testing.assert_close(gaussian.draw(parameters, torch.zeros(2, 3)), parameters.mean)
