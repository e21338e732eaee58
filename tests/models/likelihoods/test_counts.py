"""Poisson and negative binomial beside torch's distributions, and quantiles beside brute-force sums."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Poisson
from torch.nn import functional

from models import likelihoods
from models.config import ModalityConfig
from models.likelihoods.counts import Count

SHAPES: list[tuple[int, ...]] = [(3,), (2, 3, 4)]
KINDS: list[tuple[Any, Any]] = [
    ("poisson", "learned"),
    ("negative_binomial", "learned"),
    ("negative_binomial", "predicted"),
]
kinds = pytest.mark.parametrize(("name", "scale"), KINDS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["vector", "image"])


def _build(name: Any, scale: Any, shape: tuple[int, ...]) -> Count:
    torch.manual_seed(0)
    density = likelihoods.build(ModalityConfig(name="m", shape=shape, likelihood=name, scale=scale))
    assert isinstance(density, Count)
    density.set_statistics(torch.rand(shape), torch.rand(shape) + 0.5)
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter)
    return density


def _raw(density: Count, *leading: int) -> Tensor:
    return torch.randn(*leading, *density.parameter_shape)


def _expected(density: Count, raw: Tensor) -> Poisson | NegativeBinomial:
    centre, dispersion = raw, getattr(density, "raw_dispersion", None)
    if density.modality.scale == "predicted":
        centre, dispersion = raw.chunk(2, dim=raw.ndim - len(density.modality.shape))
    rate = (density.offset + centre).exp()
    if dispersion is None:
        return Poisson(rate)
    dispersion = functional.softplus(dispersion).expand_as(rate)
    return NegativeBinomial(dispersion, probs=rate / (rate + dispersion))


@kinds
@shapes
def test_the_density_is_torch_s(name: str, scale: str, shape: tuple[int, ...]) -> None:
    density = _build(name, scale, shape)
    raw, value = _raw(density, 5), torch.randint(0, 40, (5, *shape)).float()
    expected = _expected(density, raw).log_prob(value).reshape(5, -1).sum(dim=1)
    torch.testing.assert_close(density.log_prob(raw, value), expected, rtol=1e-4, atol=1e-3)


@kinds
@shapes
def test_draws_are_described_by_the_law_of_total_variance(name: str, scale: str, shape: tuple[int, ...]) -> None:
    density = _build(name, scale, shape)
    raw = _raw(density, 6, 4)
    each, described = _expected(density, raw), density.describe(raw)
    variance = each.variance.mean(dim=0) + each.mean.var(dim=0, correction=0)
    torch.testing.assert_close(described["rate"], each.mean.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(described["standard_deviation"], variance.sqrt(), rtol=1e-4, atol=1e-4)
    assert torch.equal(density.fill(described), described["rate"])


@kinds
@shapes
def test_a_quantile_is_the_first_count_whose_sum_reaches_the_probability(
    name: str, scale: str, shape: tuple[int, ...]
) -> None:
    density = _build(name, scale, shape)
    raw, probability = _raw(density, 4), torch.rand(4, *shape) * 0.97 + 0.01
    found = density.quantile(raw, probability)
    counts = torch.arange(2000.0).reshape(-1, *[1] * (1 + len(shape)))
    sums = _expected(density, raw.double()).log_prob(counts.double()).exp().cumsum(dim=0)
    assert found.shape == (4, *shape)
    torch.testing.assert_close(found, (sums < probability).sum(dim=0).float(), rtol=0, atol=0)


@kinds
@pytest.mark.parametrize("rate", [80.0, 104.0, 200.0, 320.0])
def test_quantiles_are_right_where_float32_has_no_number_for_the_probability_of_zero(
    name: str, scale: str, rate: float
) -> None:
    density = likelihoods.build(ModalityConfig(name="m", shape=(1,), likelihood=name, scale=scale))
    raw = torch.full((3, *density.parameter_shape), math.log(rate))
    probability = torch.tensor([[0.05], [0.5], [0.95]])
    found = density.quantile(raw, probability).detach()
    counts = torch.arange(5000.0, dtype=torch.float64)
    sums = _expected(density, raw.double()).log_prob(counts.reshape(-1, 1, 1)).exp().cumsum(dim=0)
    torch.testing.assert_close(found, (sums < probability).sum(dim=0).float(), rtol=0.02, atol=0)


def test_uniform_numbers_become_draws_of_a_large_rate_too() -> None:
    density = likelihoods.build(ModalityConfig(name="m", shape=(1,), likelihood="poisson"))
    chance = torch.from_numpy(np.random.default_rng(0).random((50_000, 1), dtype=np.float32))
    drawn = density.quantile(torch.full((50_000, 1), math.log(400.0)), chance)
    assert torch.equal(drawn, drawn.round())
    assert drawn.mean().item() == pytest.approx(400, abs=0.5)
    assert drawn.var().item() == pytest.approx(400, rel=0.03)


@kinds
def test_networks_see_the_standardised_logarithm(name: str, scale: str) -> None:
    density = likelihoods.build(ModalityConfig(name="m", shape=(2,), likelihood=name, scale=scale))
    counts = torch.poisson(torch.full((500, 2), 8.0))
    logarithm = counts.log1p()
    density.set_statistics(logarithm.mean(dim=0), logarithm.std(dim=0))
    seen = density.standardise(counts)
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen.std(dim=0), torch.ones(2))


@kinds
def test_a_count_that_never_varies_and_a_huge_rate_stay_finite(name: str, scale: str) -> None:
    density = likelihoods.build(ModalityConfig(name="m", shape=(2,), likelihood=name, scale=scale))
    density.set_statistics(torch.zeros(2), torch.zeros(2))
    assert density.standardise(torch.zeros(1, 2)).isfinite().all()
    raw = torch.full((1, *density.parameter_shape), 1e4, requires_grad=True)
    density.log_prob(raw, torch.full((1, 2), 1e5)).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_the_gradient_moves_a_learned_dispersion_towards_that_of_the_data() -> None:
    torch.manual_seed(0)
    density = likelihoods.build(ModalityConfig(name="m", shape=(1,), likelihood="negative_binomial"))
    value = NegativeBinomial(torch.tensor(2.5), probs=torch.tensor(6 / 8.5)).sample((4_000, 1))
    raw = value.mean().log().expand(4_000, 1)
    (learned,) = density.parameters()
    found = []
    for dispersion in (0.5, 1.5, 2.2, 2.8, 4.0, 20.0):
        learned.data.fill_(math.log(math.expm1(dispersion)))
        (gradient,) = torch.autograd.grad(density.log_prob(raw, value).mean(), learned)
        found.append(gradient.item() > 0)
    assert found == [True, True, True, False, False, False]


def test_a_scalar_count_has_a_density_and_a_quantile() -> None:
    for name in ("poisson", "negative_binomial"):
        density = likelihoods.build(ModalityConfig(name="x", likelihood=name))
        assert density.log_prob(torch.zeros(3), torch.ones(3)).shape == (3,)
        assert density.quantile(torch.zeros(3), torch.tensor(0.5)).shape == (3,)


def test_a_quantile_next_to_one_is_finite_and_small() -> None:
    """In float32 the sum of the probabilities can stay below it for ever."""
    density = likelihoods.build(ModalityConfig(name="x", shape=(1,), likelihood="poisson"))
    rates = torch.linspace(0.01, 40, 500).log().unsqueeze(1)
    assert density.quantile(rates, torch.tensor(1 - 2**-24)).max() < 100


@pytest.mark.parametrize(("rate", "quantiles"), [(100.0, (5, 69, 299)), (1000.0, (51, 693, 2995))])
def test_quantiles_of_large_overdispersed_counts_are_near_the_true_ones(
    rate: float, quantiles: tuple[int, int, int]
) -> None:
    """Dispersion 1 is a geometric distribution, whose quantiles are log(1 - p) / log(rate / (1 + rate)) - 1."""
    density = likelihoods.build(ModalityConfig(name="x", shape=(1,), likelihood="negative_binomial"))
    raw = torch.tensor([[math.log(rate)]])
    for probability, expected in zip((0.05, 0.5, 0.95), quantiles, strict=True):
        found = density.quantile(raw, torch.tensor([[probability]])).item()
        assert abs(found - expected) <= max(1, 0.02 * expected)


@kinds
def test_a_rate_that_is_nan_has_a_quantile_that_is_nan(name: str, scale: str) -> None:
    density = _build(name, scale, (2,))
    raw = torch.zeros(1, *density.parameter_shape)
    raw[0, 0] = math.nan
    assert density.quantile(raw, torch.tensor(0.5)).isnan().tolist() == [[True, False]]
