"""The cell with a split input is PyTorch's GRU cell on the whole input."""

import torch

from models.recurrence import GRU


def test_a_step_equals_torch_s_cell_on_the_concatenated_input() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU(known_features=3, latent_features=2, recurrent_features=4), torch.nn.GRUCell(5, 4)
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([ours.known.weight, ours.latent.weight], dim=1))
        theirs.bias_ih.copy_(ours.known.bias)
        theirs.weight_hh.copy_(ours.recurrent.weight)
        theirs.bias_hh.copy_(ours.recurrent.bias)
    known, latent, state = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 4)
    stepped = ours.step(ours.prepare(known), latent, state)
    torch.testing.assert_close(stepped, theirs(torch.cat([known, latent], dim=1), state))


def test_every_gate_starts_with_an_orthogonal_recurrence() -> None:
    for gate in GRU(3, 2, 8).recurrent.weight.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8))
