"""The running average of the weights."""

import pytest
import torch
from torch import nn

from models.training.average import WeightAverage


def test_it_follows_the_weights_and_changes_places_with_them() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = WeightAverage(layer, 0.9)
    expected = 1.0
    for step in range(1, 200):
        layer.weight.data.fill_(float(step))
        average.follow(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
        assert average.aside()["weight"].item() == 199.0
    assert layer.weight.item() == 199.0


def test_a_state_goes_on_with_both() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    average = WeightAverage(layer, 0.5)
    layer.weight.data.add_(1.0)
    average.follow(1)
    with average.in_place():
        weights, live = layer.state_dict(), dict(average.aside())
        other.load_state_dict(weights)
    again = WeightAverage(other, 0.5)
    again.begin_with(live)
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(again.aside()["weight"], average.aside()["weight"])
