"""The optimiser on one vector, beside `torch.optim` on one parameter after the other."""

from typing import Literal

import pytest
import torch
from torch import nn

from models.architectures import Model, build
from models.training.flat import FlatParameters
from models.training.optimiser import Optimiser
from tests.models.training.small import two

REFERENCES: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def _model() -> Model:
    torch.manual_seed(0)
    return build(two())


def _loss(model: Model, step: int) -> torch.Tensor:
    """A function of all parameters, another one each step."""
    generator = torch.Generator().manual_seed(step)
    parts = [(p * torch.randn(p.shape, generator=generator)).tanh().sum() for p in model.parameters()]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_it_steps_as_torch_does_and_has_the_same_state(kind: Literal["adam", "adamw"]) -> None:
    ours, theirs = _model(), _model()
    optimiser = Optimiser(FlatParameters(ours), kind, 0.1)
    reference = REFERENCES[kind](theirs.parameters(), lr=1.0, weight_decay=0.1)  # type: ignore[call-arg]
    assert not optimiser.state()
    for step in range(1, 6):
        optimiser.zero_grad()
        reference.zero_grad()
        for model in (ours, theirs):
            _loss(model, step).backward()
        present = nn.utils.get_total_norm([one.grad for one in theirs.parameters() if one.grad is not None]).item()
        max_norm = {1: 1e9, 2: 2 * present}.get(step, 0.5)  # far above the norm, a little above, below
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
        assert optimiser.clip(max_norm) == pytest.approx(norm.item(), rel=1e-5)
        reference.param_groups[0]["lr"] = 0.01 * step
        optimiser.step(0.01 * step)
        reference.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    state = {f"{n}/{key}": value for n, part in reference.state_dict()["state"].items() for key, value in part.items()}
    torch.testing.assert_close(optimiser.state(), state)


@pytest.mark.parametrize("double", [False, True])
def test_a_stored_state_continues_bit_for_bit(double: bool) -> None:
    model, other = _model(), _model()
    if double:  # parameters of two types are two vectors
        model.decoders.double()
        other.decoders.double()
    optimiser, again = (Optimiser(FlatParameters(one), "adamw", 0.01) for one in (model, other))
    _loss(model, 1).backward()
    optimiser.step(0.1)
    other.load_state_dict(model.state_dict())
    again.restore(optimiser.state())
    for one, stepped in ((optimiser, model), (again, other)):
        one.zero_grad()
        _loss(stepped, 2).backward()
        one.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert optimiser.state().keys() == again.state().keys()
    assert all(torch.equal(value, again.state()[name]) for name, value in optimiser.state().items())


def test_nan_propagates_through_clipping() -> None:
    model = _model()
    flat = FlatParameters(model)
    optimiser = Optimiser(flat, "adam", 0.0)
    (_loss(model, 1) * float("nan")).backward()
    norm = optimiser.clip(1.0)
    assert norm != norm
    assert flat.gradients[0].isnan().any()


def test_a_frozen_parameter_has_a_gradient_of_zeros() -> None:
    model = _model()
    first = next(model.parameters()).requires_grad_(False)
    Optimiser(FlatParameters(model), "adam", 0.0)
    _loss(model, 1).backward()
    assert first.grad is not None
    assert not first.grad.any()
