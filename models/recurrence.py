"""The recurrent cells of the MM-VRNN, whose input part is computed for all steps before the time loop."""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn


class Recurrence(nn.Module, ABC):
    """Layers of a gated cell with two inputs: one that is known for all steps, and the step's latent.

    H recurrent features, L layers, G gates. The state of all layers is one vector of `state_features` numbers, so that
    callers can store it; the last H of them are the top layer's h, on which the rest of the model depends.
    """

    GATES: int
    VECTORS: int
    """State vectors per layer."""

    def __init__(self, known_features: int, latent_features: int, recurrent_features: int, layers: int = 1) -> None:
        super().__init__()
        self.recurrent_features = recurrent_features
        self.state_features = self.VECTORS * layers * recurrent_features
        width = self.GATES * recurrent_features
        self.known = nn.Linear(known_features, width)
        self.latent = nn.Linear(latent_features, width, bias=False)
        self.below = nn.ModuleList(nn.Linear(recurrent_features, width) for _ in range(layers - 1))
        self.recurrent = nn.ModuleList(nn.Linear(recurrent_features, width) for _ in range(layers))
        # orthogonal per gate: the state neither vanishes nor explodes early in training
        for layer in self.recurrent:
            for gate in cast(nn.Linear, layer).weight.data.chunk(self.GATES):
                nn.init.orthogonal_(gate)

    def initial(self, like: Tensor) -> Tensor:
        """The state before the first step, zeros: (B, state_features), on the device of `like`, (B, ...)."""
        return torch.zeros(len(like), self.state_features, device=like.device)

    def output(self, state: Tensor) -> Tensor:
        """h of the top layer: (..., state_features) -> (..., H)."""
        return state[..., -self.recurrent_features :]

    def prepare(self, known: Tensor) -> Tensor:
        """The known input's part of the first layer's gates, for all steps at once: (..., known) -> (..., G H)."""
        gates: Tensor = self.known(known)
        return gates

    def step(self, prepared: Tensor, latent: Tensor, state: Tensor) -> Tensor:
        """The next state, (B, state_features). prepared: (B, G H). latent: (B, Z). state: (B, state_features)."""
        gates = prepared + self.latent(latent)
        before = state.unflatten(-1, (self.VECTORS, len(self.recurrent), -1)).unbind(dim=-2)  # L of (B, VECTORS, H)
        after: list[Tensor] = []
        for layer, own in enumerate(before):
            if layer:
                gates = self.below[layer - 1](after[-1][:, -1])
            # the state stays float32 under mixed precision
            after.append(self.cell(gates.to(state), self.recurrent[layer](own[:, -1]).to(state), own))
        return torch.stack(after, dim=-2).flatten(1)

    @abstractmethod
    def cell(self, gates: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
        """One layer's next state. gates, recurrent: (B, G H), of the input and of h. state: (B, VECTORS, H), h last."""


class GRU(Recurrence):
    """Gated recurrent unit (arXiv:1406.1078): h_t = (1 - u) tanh(n_x + r n_h) + u h_{t-1}, gates r, u, n."""

    GATES = 3
    VECTORS = 1

    def cell(self, gates: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
        """(B, 1, H)."""
        reset, update, new = gates.chunk(3, dim=-1)
        reset_h, update_h, new_h = recurrent.chunk(3, dim=-1)
        keep = torch.sigmoid(update + update_h)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        return torch.lerp(candidate, state[:, 0], keep).unsqueeze(1)


class LSTM(Recurrence):
    """Long short-term memory: c_t = f c_{t-1} + i tanh(g), h_t = o tanh(c_t), gates i, f, g, o (with forget gates)."""

    GATES = 4
    VECTORS = 2

    def __init__(self, known_features: int, latent_features: int, recurrent_features: int, layers: int = 1) -> None:
        super().__init__(known_features, latent_features, recurrent_features, layers)
        # an open forget gate lets gradients pass from the start (Jozefowicz et al., 2015)
        for linear in [self.known, *self.below]:
            nn.init.ones_(cast(nn.Linear, linear).bias.data.chunk(4)[1])

    def cell(self, gates: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
        """(B, 2, H): c, then h."""
        enter, forget, new, leave = (gates + recurrent).chunk(4, dim=-1)
        memory = torch.sigmoid(forget) * state[:, 0] + torch.sigmoid(enter) * torch.tanh(new)
        return torch.stack([memory, torch.sigmoid(leave) * torch.tanh(memory)], dim=1)


RECURRENCES: dict[str, type[Recurrence]] = {"gru": GRU, "lstm": LSTM}


class Smoother(nn.Module):
    """b_t, a summary of x_t, ..., x_T for each step: the states of a GRU that runs backwards over each sequence.

    both_ways: with those of a second GRU that runs forwards, for models whose state does not depend on x.
    """

    def __init__(self, in_features: int, recurrent_features: int, both_ways: bool = False) -> None:
        super().__init__()
        self.gru = nn.GRU(in_features, recurrent_features, batch_first=True)
        self.past = nn.GRU(in_features, recurrent_features, batch_first=True) if both_ways else None
        self.out_features = (1 + both_ways) * recurrent_features

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """b_t, (N, T, out_features), of features (N, T, F) and valid (N, T) bool. Padding steps have no meaning."""
        lengths = valid.sum(dim=1, keepdim=True)
        step = torch.arange(valid.shape[1], device=valid.device)
        # reverse each sequence within its own length; the padding stays at the end
        order = torch.where(valid, lengths - 1 - step, step).unsqueeze(-1)
        backward, _ = self.gru(features.gather(1, order.expand_as(features)))
        smoothed: Tensor = backward.gather(1, order.expand_as(backward))
        if self.past is None:
            return smoothed
        forward, _ = self.past(features)
        return torch.cat([smoothed, forward], dim=-1)

    def ends(self, smoothed: Tensor, valid: Tensor) -> Tensor:
        """The last state of each direction: (N, T, out_features) -> (N, out_features)."""
        first = smoothed[:, 0].clone()
        if self.past is None:
            return first
        half = self.out_features // 2
        last = (valid.sum(dim=1) - 1).clamp(min=0)
        rows = torch.arange(len(last), device=last.device)
        return torch.cat([first[:, :half], smoothed[rows, last, half:]], dim=-1)
