"""The running average of the weights."""

import pytest
import torch

from models.architectures import build
from models.training.average import WeightAverage
from models.training.flat import FlatParameters
from tests.models.training.small import two


def _averaged(decay: float) -> tuple[FlatParameters, WeightAverage, torch.Tensor]:
    """The parameters of a model, their average, and the first weight, whose values are all 1."""
    model = build(two())
    flat = FlatParameters(model)
    weight = next(model.parameters()).data
    weight.fill_(1.0)
    return flat, WeightAverage(flat, decay), weight


def test_it_follows_the_weights_and_changes_places_with_them() -> None:
    _, average, weight = _averaged(0.9)
    expected = 1.0
    for step in range(1, 200):
        weight.fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        torch.testing.assert_close(weight, torch.full_like(weight, expected), rtol=1e-5, atol=0)
        assert next(iter(average.swapped_out().values())).unique().item() == 199.0
    assert weight.unique().item() == 199.0


def test_weights_are_restored_after_an_error() -> None:
    _, average, weight = _averaged(0.5)
    weight.fill_(3.0)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert weight.unique().item() == 3.0


def test_a_state_restores_the_weights_and_their_average() -> None:
    flat, average, weight = _averaged(0.5)
    weight.add_(1.0)
    average.update(1)
    with average.applied():
        served = {name: view.clone() for name, view in flat.views([v.detach() for v in flat.vectors]).items()}
        live = {name: view.clone() for name, view in average.swapped_out().items()}
    other = build(two())
    again = FlatParameters(other)
    restored = WeightAverage(again, 0.5)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(served[name])
    restored.restore(live)
    assert torch.equal(again.vectors[0], flat.vectors[0])
    assert all(torch.equal(view, average.swapped_out()[name]) for name, view in restored.swapped_out().items())
