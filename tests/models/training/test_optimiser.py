"""All parameters as one vector, beside torch's own optimisers."""

from typing import Literal

import pytest
import torch
from torch import nn

from models.training.optimiser import Optimiser

KINDS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_it_steps_as_torch_does_and_has_the_same_state(kind: Literal["adam", "adamw"]) -> None:
    ours, theirs = _network(), _network()
    optimiser = Optimiser(list(ours.parameters()), kind, 0.1)
    reference = KINDS[kind](theirs.parameters(), lr=1.0, weight_decay=0.1)  # type: ignore[call-arg]
    assert not optimiser.tensors()
    for step in range(1, 6):
        value = torch.randn(7, 3, generator=torch.Generator().manual_seed(step))
        optimiser.zero_gradients()
        reference.zero_grad()
        for network in (ours, theirs):
            network(value).square().sum().backward()
        present = nn.utils.get_total_norm([one.grad for one in theirs.parameters() if one.grad is not None])
        most = {1: 1e9, 2: 2 * present.item()}.get(step, 0.5)  # far above the norm, a little above, below
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), most)
        assert optimiser.clip(most) == pytest.approx(norm.item(), rel=1e-5)
        reference.param_groups[0]["lr"] = 0.01 * step
        optimiser.step(0.01 * step)
        reference.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    state = {f"{n}/{key}": value for n, part in reference.state_dict()["state"].items() for key, value in part.items()}
    torch.testing.assert_close(optimiser.tensors(), state)


def test_a_stored_state_goes_on() -> None:
    network, other = _network(), _network()
    optimiser, again = (Optimiser(list(one.parameters()), "adamw", 0.0) for one in (network, other))
    for gradient in optimiser.gradients:
        gradient.fill_(0.3)
    optimiser.step(0.1)
    other.load_state_dict(network.state_dict())
    again.restore(optimiser.tensors())
    for one in (optimiser, again):
        for gradient in one.gradients:
            gradient.fill_(-0.2)
        one.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_what_is_not_a_number_stays_that_and_what_has_no_gradient_has_zeros() -> None:
    network = _network()
    network[0].requires_grad_(False)
    optimiser = Optimiser(list(network.parameters()), "adam", 0.0)
    optimiser.zero_gradients()
    network(torch.full((1, 3), float("nan"))).sum().backward()
    assert optimiser.clip(1.0) != optimiser.clip(1.0)
    assert network[0].weight.grad is not None
    assert not network[0].weight.grad.nan_to_num().any()


def test_parameters_of_several_types_are_several_vectors_and_get_their_memory_back() -> None:
    network = nn.ModuleList([_network(), nn.Linear(2, 2).double()])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = Optimiser(list(network.parameters()), "adam", 0.0)
    assert len(optimiser.gradients) == 2
    optimiser.release()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    sizes = [one.untyped_storage().nbytes() == one.nbytes for one in network.parameters()]
    assert all(sizes)
    assert all(one.grad is None for one in network.parameters())
