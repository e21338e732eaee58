"""Gaussian and Laplace with every kind of scale, beside torch's distributions, in the user's units."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace, Normal
from torch.nn import functional

from models import likelihoods
from models.config import ModalityConfig
from models.likelihoods.continuous import Continuous

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3, 4)]
DENSITIES = {"gaussian": Normal, "laplace": Laplace}
every = [
    pytest.mark.parametrize("shape", SHAPES, ids=["scalar", "vector", "image"]),
    pytest.mark.parametrize("scale", ["learned", "predicted", 0.3]),
    pytest.mark.parametrize("name", DENSITIES),
]


def _every(test: Any) -> Any:
    for mark in every:
        test = mark(test)
    return test


def _build(name: Any, shape: tuple[int, ...], scale: Any) -> Continuous:
    torch.manual_seed(0)
    density = likelihoods.build(ModalityConfig(name="m", shape=shape, likelihood=name, scale=scale))
    assert isinstance(density, Continuous)
    density.set_statistics(torch.randn(shape) * 5, torch.rand(shape) * 3 + 0.2)
    if scale == "learned":
        # a spread that is not 1
        density.adapt(torch.cat([torch.ones(1), torch.full((density.moment.numel(),), 9.0)]))
    return density


def _raw(density: Continuous, *leading: int) -> Tensor:
    return torch.randn(*leading, *density.parameter_shape)


def _expected(density: Continuous, raw: Tensor) -> Distribution:
    """The density that the decoder's numbers mean, in the user's units."""
    shape, scale = density.modality.shape, density.modality.scale
    centre, spread = raw, density.moment.pow(1 / density.POWER) * density.scale
    if scale == "predicted":
        axis = raw.ndim - max(len(shape), 1)
        centre, unbounded = raw.chunk(2, dim=axis)
        if not shape:
            centre, unbounded = centre.squeeze(axis), unbounded.squeeze(axis)
        spread = (functional.softplus(unbounded) + 0.01) * density.scale
    elif isinstance(scale, float):
        spread = torch.tensor(scale)
    location = density.offset + density.scale * centre
    return DENSITIES[density.modality.likelihood](location, spread.expand_as(location))


@_every
def test_the_density_equals_torch_s_in_the_units_of_the_values(name: str, scale: Any, shape: tuple[int, ...]) -> None:
    density = _build(name, shape, scale)
    raw, value = _raw(density, 4), torch.randn(4, *shape) * 4
    expected = _expected(density, raw).log_prob(value).reshape(4, -1).sum(dim=1)
    torch.testing.assert_close(density.log_prob(raw, value), expected, rtol=1e-4, atol=1e-4)


@_every
def test_draws_are_described_by_the_law_of_total_variance(name: str, scale: Any, shape: tuple[int, ...]) -> None:
    density = _build(name, shape, scale)
    raw = _raw(density, 5, 4)
    each, described = _expected(density, raw), density.describe(raw)
    variance = each.variance.mean(dim=0) + each.mean.var(dim=0, correction=0)
    torch.testing.assert_close(described["mean"], each.mean.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(described["standard_deviation"], variance.sqrt(), rtol=1e-4, atol=1e-4)
    assert torch.equal(density.fill(described), described["mean"])


@_every
def test_a_quantile_has_its_probability_below_it(name: str, scale: Any, shape: tuple[int, ...]) -> None:
    density = _build(name, shape, scale)
    raw, probability = _raw(density, 4), torch.rand(4, *shape) * 0.98 + 0.01
    value = density.quantile(raw, probability)
    assert value.shape == (4, *shape)
    torch.testing.assert_close(_expected(density, raw).cdf(value), probability, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", DENSITIES)
def test_quantiles_of_0_and_1_are_finite(name: str) -> None:
    density = _build(name, (3,), "learned")
    assert density.quantile(torch.zeros(2, 3), torch.tensor([[0.0], [1.0]])).isfinite().all()


@pytest.mark.parametrize(("name", "power", "deviation"), [("gaussian", 2, 1.0), ("laplace", 1, math.sqrt(2))])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_learned_spread_goes_to_its_most_likely_value(
    name: str, power: int, deviation: float, shape: tuple[int, ...]
) -> None:
    """The root mean squared error for a gaussian, the mean absolute error for a laplace, of present values."""
    density = _build(name, shape, "learned")
    raw, value = torch.randn(6, *shape), torch.randn(6, *shape) * 5
    value[5] = 1e6
    present = torch.arange(6) < 5
    for _ in range(900):
        density.adapt(density.errors(raw, value, present))
    error = (value - density.offset - density.scale * raw)[:5].abs().pow(power)
    mean = (error.mean(dim=0) if len(shape) <= 1 else error.mean()).pow(1 / power)
    described = density.describe(raw[None])["standard_deviation"][0]
    torch.testing.assert_close(described, (deviation * mean).expand(shape), rtol=1e-3, atol=0)


@_every
def test_sums_of_two_half_batches_are_those_of_the_whole(name: str, scale: Any, shape: tuple[int, ...]) -> None:
    density = _build(name, shape, scale)
    raw, value, present = _raw(density, 6), torch.randn(6, *shape), torch.tensor([1, 0, 1, 1, 1, 0]).bool()
    whole = density.errors(raw, value, present)
    halves = density.errors(raw[:3], value[:3], present[:3]) + density.errors(raw[3:], value[3:], present[3:])
    torch.testing.assert_close(whole, halves)
    assert len(whole) == (1 + density.moment.numel() if scale == "learned" else 0)


@pytest.mark.parametrize("scale", ["predicted", 0.3])
def test_only_a_learned_spread_adapts(scale: Any) -> None:
    density = _build("gaussian", (3,), scale)
    raw = _raw(density, 4)
    before = density.describe(raw[None])["standard_deviation"]
    density.adapt(density.errors(raw, torch.full((4, 3), 99.0), torch.ones(4, dtype=torch.bool)))
    assert torch.equal(density.describe(raw[None])["standard_deviation"], before)


def test_a_fixed_scale_is_in_the_user_s_units_for_any_spread_of_the_data() -> None:
    density = _build("gaussian", (3,), 0.3)
    described = density.describe(torch.zeros(1, 2, 3))
    torch.testing.assert_close(described["standard_deviation"], torch.full((2, 3), 0.3))
