"""Cells with a split input are PyTorch's on the whole input, layer over layer; the smoother sees the future alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.recurrence import GRU, LSTM, RECURRENCES, Recurrence, Smoother


def _stack(ours: Recurrence, theirs: nn.RNNBase) -> None:
    """Give torch's layers our weights."""
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([ours.known.weight, ours.latent.weight], dim=1))
        theirs.bias_ih_l0.copy_(ours.known.bias)
        for layer, recurrent in enumerate(ours.recurrent):
            getattr(theirs, f"weight_hh_l{layer}").copy_(recurrent.weight)
            getattr(theirs, f"bias_hh_l{layer}").copy_(recurrent.bias)
        for layer, below in enumerate(ours.below):
            getattr(theirs, f"weight_ih_l{layer + 1}").copy_(below.weight)
            getattr(theirs, f"bias_ih_l{layer + 1}").copy_(below.bias)


def _run(ours: Recurrence, known: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """What the top layer gives at every step (B, T, H), and the last state."""
    prepared, state, outputs = ours.prepare(known), ours.initial(known), []
    for t in range(known.shape[1]):
        state = ours.step(prepared[:, t], latent[:, t], state)
        outputs.append(ours.output(state))
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("name", RECURRENCES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_steps_equal_torch_s_on_the_concatenated_input(name: str, layers: int) -> None:
    torch.manual_seed(0)
    kind: Any = {"gru": nn.GRU, "lstm": nn.LSTM}[name]
    ours, theirs = RECURRENCES[name](3, 2, 4, layers), kind(5, 4, layers, batch_first=True)
    _stack(ours, theirs)
    known, latent = torch.randn(6, 7, 3), torch.randn(6, 7, 2)
    outputs, state = _run(ours, known, latent)
    expected, last = theirs(torch.cat([known, latent], dim=2))
    torch.testing.assert_close(outputs, expected)
    hidden = last if name == "gru" else torch.cat([last[1], last[0]])
    torch.testing.assert_close(state, hidden.transpose(0, 1).flatten(1))


@pytest.mark.parametrize("name", RECURRENCES)
def test_one_step_from_any_state_equals_torch_s_cell(name: str) -> None:
    torch.manual_seed(0)
    kind: Any = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[name]
    ours, theirs = RECURRENCES[name](3, 2, 4), kind(5, 4)
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([ours.known.weight, ours.latent.weight], dim=1))
        theirs.bias_ih.copy_(ours.known.bias)
        theirs.weight_hh.copy_(ours.recurrent[0].weight)
        theirs.bias_hh.copy_(ours.recurrent[0].bias)
    known, latent, state = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, ours.state_features)
    stepped = ours.step(ours.prepare(known), latent, state)
    whole = torch.cat([known, latent], dim=1)
    if name == "gru":
        torch.testing.assert_close(stepped, theirs(whole, state))
    else:
        hidden, memory = theirs(whole, (state[:, 4:], state[:, :4]))
        torch.testing.assert_close(stepped, torch.cat([memory, hidden], dim=1))


@pytest.mark.parametrize("name", RECURRENCES)
def test_every_gate_starts_with_an_orthogonal_recurrence(name: str) -> None:
    ours = RECURRENCES[name](3, 2, 8, 2)
    for layer in ours.recurrent:
        for gate in layer.weight.chunk(ours.GATES):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=1e-4, atol=1e-5)


def test_forget_gates_start_open() -> None:
    ours = LSTM(3, 2, 4, 2)
    for linear in (ours.known, *ours.below):
        assert linear.bias[4:8].eq(1).all()


@pytest.mark.parametrize(("kind", "vectors"), [(GRU, 1), (LSTM, 2)])
def test_a_state_is_one_vector_a_row_that_begins_as_zeros(kind: type[Recurrence], vectors: int) -> None:
    ours = kind(3, 2, 4, 3)
    assert ours.state_features == vectors * 3 * 4
    assert torch.equal(ours.initial(torch.randn(5, 1)), torch.zeros(5, ours.state_features))


def _smoother() -> Smoother:
    torch.manual_seed(0)
    return Smoother(3, 4)


def test_the_smoother_is_a_gru_that_runs_backwards_over_each_sequence() -> None:
    smoother, features = _smoother(), torch.randn(3, 5, 3)
    lengths = torch.tensor([5, 2, 4])
    smoothed = smoother(features, torch.arange(5) < lengths[:, None])
    for row, length in enumerate(lengths.tolist()):
        backward, _ = smoother.gru(features[row : row + 1, :length].flip(1))
        torch.testing.assert_close(smoothed[row : row + 1, :length], backward.flip(1))


def test_the_smoother_depends_only_on_this_step_and_later_ones() -> None:
    smoother, features, valid = _smoother(), torch.randn(1, 5, 3), torch.ones(1, 5, dtype=torch.bool)
    for t in range(5):
        changed = features.clone()
        changed[:, t] += 1
        same = torch.isclose(smoother(features, valid), smoother(changed, valid)).all(dim=2)[0]
        assert same.tolist() == [step > t for step in range(5)]


def test_padding_changes_nothing_for_the_smoother() -> None:
    smoother, features = _smoother(), torch.randn(2, 4, 3)
    valid = torch.arange(4) < torch.tensor([4, 2])[:, None]
    longer = torch.cat([features, torch.full((2, 3, 3), 99.0)], dim=1)
    padded = smoother(longer, torch.cat([valid, torch.zeros(2, 3, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(padded[:, :4][valid], smoother(features, valid)[valid])
