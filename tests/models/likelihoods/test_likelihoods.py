"""Likelihoods beside torch's distributions, in the user's units."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from models import likelihoods
from models.config import ModalityConfig

VECTOR = ModalityConfig(name="v", shape=(3,), likelihood="gaussian")
IMAGE = ModalityConfig(name="i", shape=(1, 2, 2), likelihood="gaussian")


def test_the_gaussian_density_is_in_the_units_of_the_values() -> None:
    density = likelihoods.build(VECTOR)
    offset, scale = torch.tensor([5.0, -2.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
    density.set_statistics(offset, scale)
    raw, value = torch.randn(4, 3), torch.randn(4, 3) * 3
    expected = Normal(offset + scale * raw, scale).log_prob(value).sum(dim=-1)
    torch.testing.assert_close(density.log_prob(raw, value), expected)


def test_predictions_are_in_the_user_s_units() -> None:
    density = likelihoods.build(VECTOR)
    offset, scale = torch.tensor([5.0, -2.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
    density.set_statistics(offset, scale)
    raw = torch.randn(1, 4, 3)
    described = density.describe(raw)
    torch.testing.assert_close(described["mean"], offset + scale * raw[0])
    torch.testing.assert_close(described["standard_deviation"], scale.expand(4, 3))


def test_the_spread_of_draws_adds_to_the_variance() -> None:
    density = likelihoods.build(VECTOR)
    raw = torch.randn(7, 4, 3)
    described = density.describe(raw)
    torch.testing.assert_close(described["mean"], raw.mean(dim=0))
    torch.testing.assert_close(described["standard_deviation"].square(), 1 + raw.var(dim=0, correction=0))


def test_sigma_moves_to_the_root_mean_squared_error_of_present_values() -> None:
    density = likelihoods.build(VECTOR)
    raw = torch.zeros(4, 3)
    value = torch.tensor([[0.5, 1.0, 2.0]] * 3 + [[1e6, 1e6, 1e6]])
    present = torch.tensor([True, True, True, False])
    for _ in range(600):
        density.adapt(density.errors(raw, value, present))
    described = density.describe(raw[None])
    torch.testing.assert_close(described["standard_deviation"][0], torch.tensor([0.5, 1.0, 2.0]), rtol=1e-3, atol=0)


def test_a_batch_without_the_modality_changes_no_scale() -> None:
    density = likelihoods.build(VECTOR)
    before = density.describe(torch.zeros(1, 2, 3))["standard_deviation"]
    nobody = torch.zeros(2, dtype=torch.bool)
    density.adapt(density.errors(torch.zeros(2, 3), torch.zeros(2, 3), nobody))
    torch.testing.assert_close(density.describe(torch.zeros(1, 2, 3))["standard_deviation"], before)


def test_an_image_has_one_scale_so_that_a_constant_pixel_does_not_dominate() -> None:
    density = likelihoods.build(IMAGE)
    mean, deviation = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 2.0]]])
    density.set_statistics(mean, deviation)
    standard = density.standardise(torch.zeros(1, 1, 2, 2))
    assert standard.unique().numel() == 1
    # the variance of all pixels together: within and between
    overall = (deviation.square().mean() + mean.var(correction=0)).sqrt()
    assert standard.flatten()[0].item() == pytest.approx(-(1.5 / overall.item()), rel=1e-5)


def test_a_feature_that_never_varies_stays_finite() -> None:
    density = likelihoods.build(VECTOR)
    density.set_statistics(torch.tensor([4.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0]))
    assert density.standardise(torch.full((1, 3), 4.0)).isfinite().all()
    assert density.log_prob(torch.zeros(1, 3), torch.full((1, 3), 4.0)).isfinite().all()


def test_the_bernoulli_density_is_torch_s() -> None:
    density = likelihoods.build(ModalityConfig(name="b", shape=(2, 2), likelihood="bernoulli"))
    raw, value = torch.randn(5, 2, 2), torch.randint(0, 2, (5, 2, 2)).float()
    torch.testing.assert_close(density.log_prob(raw, value), Bernoulli(logits=raw).log_prob(value).sum(dim=(1, 2)))
    torch.testing.assert_close(density.describe(raw[None])["probability"], raw.sigmoid())


def test_the_categorical_density_is_torch_s_and_draws_average_probabilities() -> None:
    density = likelihoods.build(ModalityConfig(name="c", categories=4, likelihood="categorical"))
    raw, value = torch.randn(5, 4), torch.randint(0, 4, (5,))
    torch.testing.assert_close(density.log_prob(raw, value), Categorical(logits=raw).log_prob(value))
    draws = torch.randn(3, 5, 4)
    described = density.describe(draws)
    torch.testing.assert_close(described["probabilities"], draws.softmax(dim=-1).mean(dim=0))
    assert described["category"].tolist() == described["probabilities"].argmax(dim=-1).tolist()


def test_a_bernoulli_quantile_is_a_draw() -> None:
    density = likelihoods.build(ModalityConfig(name="b", shape=(2,), likelihood="bernoulli"))
    raw = torch.tensor([[-1.0, 2.0]])
    chance = ((torch.arange(10_000) + 0.5) / 10_000).unsqueeze(1).expand(-1, 2)
    drawn = density.quantile(raw.expand(10_000, 2), chance)
    torch.testing.assert_close(drawn.mean(dim=0, keepdim=True), raw.sigmoid(), atol=2e-4, rtol=0)
    assert drawn.diff(dim=0).min() == 0
    assert density.fill(density.describe(raw[None])).tolist() == [[0.0, 1.0]]


def test_a_categorical_quantile_is_a_draw_and_always_a_category() -> None:
    density = likelihoods.build(ModalityConfig(name="c", categories=4, likelihood="categorical"))
    raw = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    drawn = density.quantile(raw.expand(10_000, 4), (torch.arange(10_000) + 0.5) / 10_000)
    assert drawn.dtype == torch.int64
    torch.testing.assert_close(drawn.bincount(minlength=4) / 10_000, raw.softmax(dim=-1)[0], atol=2e-4, rtol=0)
    assert drawn.sort().values.equal(drawn)
    assert density.quantile(raw.expand(2, 4), torch.tensor([0.0, 1.0])).tolist() == [0, 3]
    assert torch.equal(density.fill(density.describe(raw[None])), raw.argmax(dim=-1))
