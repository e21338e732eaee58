"""A mask per element: absent elements add nothing to a density, a profile or an error, and give no gradient."""

import math

import pytest
import torch

from models import likelihoods
from models.config import ModalityConfig
from models.likelihoods import Likelihood

CASES = [
    ("gaussian", "learned"),
    ("gaussian", "predicted"),
    ("laplace", "learned"),
    ("laplace", 0.5),
    ("bernoulli", "learned"),
    ("poisson", "learned"),
    ("negative_binomial", "learned"),
    ("negative_binomial", "predicted"),
]


def density(name: str, scale: str | float, shape: tuple[int, ...]) -> Likelihood:
    found = likelihoods.build(ModalityConfig(name="m", shape=shape, likelihood=name, scale=scale))
    found.set_statistics(torch.full(shape, 0.3), torch.full(shape, 0.7))
    return found


def numbers(found: Likelihood, rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(rows, *found.parameter_shape, generator=generator)
    return raw, torch.randint(2, (rows, *found.modality.shape), generator=generator).float()


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_density_of_present_elements_is_that_of_a_value_of_these_elements(name: str, scale: str | float) -> None:
    wide, narrow = density(name, scale, (3,)), density(name, scale, (2,))
    raw, value = numbers(wide, 4, seed=0)
    mask = torch.tensor([True, False, True]).expand(4, 3)
    kept = torch.stack(wide.split(raw), dim=1)[:, :, [0, 2]].flatten(1)

    assert torch.allclose(wide.log_prob(raw, value, mask), narrow.log_prob(kept, value[:, [0, 2]]), atol=1e-5)


@pytest.mark.parametrize(("name", "scale"), CASES)
@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2)])
def test_a_mask_of_all_elements_equals_no_mask(name: str, scale: str | float, shape: tuple[int, ...]) -> None:
    found = density(name, scale, shape)
    raw, value = numbers(found, 5, seed=1)
    everything = torch.ones(5, *shape, dtype=torch.bool)
    row, present = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([True, True, False, True, True])

    assert torch.allclose(found.log_prob(raw, value, everything), found.log_prob(raw, value), atol=1e-5)
    assert torch.allclose(found.profile(raw, value, row, 2, everything), found.profile(raw, value, row, 2), atol=1e-5)
    plain, masked = density(name, scale, shape), density(name, scale, shape)
    plain.adapt(plain.errors(raw, value, present))
    masked.adapt(masked.errors(raw, value, present, everything))
    for name_, tensor in plain.state_dict().items():
        assert torch.allclose(masked.state_dict()[name_], tensor), name_


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_absent_elements_hold_any_number_and_give_no_gradient(name: str, scale: str | float) -> None:
    found = density(name, scale, (2,))
    raw, value = numbers(found, 3, seed=2)
    mask = torch.tensor([[True, False], [False, True], [False, False]])
    raw.requires_grad_()
    garbage = torch.where(mask, value, torch.tensor([math.nan, -7.5]))

    masked = found.log_prob(raw, garbage, mask)
    masked.sum().backward()

    assert torch.equal(masked, found.log_prob(raw, value, mask))
    assert masked[2] == 0
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    gradient = torch.stack(found.split(raw.grad), dim=-1)
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask] != 0).any()


def test_an_absent_category_adds_nothing() -> None:
    found = likelihoods.build(ModalityConfig(name="m", categories=3, likelihood="categorical"))
    raw, value = torch.randn(2, 3, generator=torch.Generator().manual_seed(3)), torch.tensor([2, 99])

    masked = found.log_prob(raw, value, torch.tensor([True, False]))

    assert torch.equal(masked, torch.stack([raw[0].log_softmax(0)[2], torch.tensor(0.0)]))


@pytest.mark.parametrize(("name", "power"), [("gaussian", 2), ("laplace", 1)])
def test_each_spread_adapts_to_the_errors_of_its_present_elements(name: str, power: int) -> None:
    found = density(name, "learned", (2,))
    found.set_statistics(torch.zeros(2), torch.ones(2))
    raw, value = torch.zeros(3, 2), torch.tensor([[1.0, 5.0], [3.0, 5.0], [9.0, 9.0]])
    mask = torch.tensor([[True, False], [True, False], [True, True]])
    present = torch.tensor([True, True, False])

    found.adapt(found.errors(raw, value, present, mask))

    mean = (1 + 3**power) / 2
    assert torch.allclose(found.moment, torch.tensor([0.98 + 0.02 * mean, 1.0]))


def test_the_spread_of_an_image_adapts_to_the_mean_error_of_all_present_elements() -> None:
    found = density("gaussian", "learned", (1, 1, 2))
    found.set_statistics(torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    value = torch.tensor([1.0, 7.0, 2.0, 3.0]).reshape(2, 1, 1, 2)
    mask = torch.tensor([True, False, True, True]).reshape(2, 1, 1, 2)

    found.adapt(found.errors(torch.zeros(2, 1, 1, 2), value, torch.ones(2, dtype=torch.bool), mask))

    assert torch.allclose(found.moment.flatten(), torch.tensor(0.98 + 0.02 * (1 + 4 + 9) / 3))


def test_a_profile_counts_only_present_elements() -> None:
    found = density("gaussian", "learned", (2,))
    found.set_statistics(torch.zeros(2), torch.ones(2))
    value = torch.tensor([[2.0, 99.0], [4.0, 6.0]])
    mask = torch.tensor([[True, False], [True, True]])

    profile = found.profile(torch.zeros(2, 2), value, torch.zeros(2, dtype=torch.int64), 1, mask)

    assert torch.allclose(profile, torch.tensor([3 * math.log((4 + 16 + 36) / 3) / 2]))
