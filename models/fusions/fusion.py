"""Base classes of the fusions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Fusion(nn.Module, ABC):
    """Joins the features of M modalities, F per modality, at each step of B sequences of T steps."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.modality_features = modality_features

    @abstractmethod
    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """The joint features, (B, T, out_features).

        features: M of (B, T, F), present: M of (B, T) bool; either is None for a modality that is absent everywhere.
        like: any (B, T) tensor. The result does not depend on the features of absent steps.
        """


class Concatenation(Fusion):
    """SiLU of a linear layer of the M features, concatenated; `fill` stands in for absent ones.

    A subclass declares `fill`, and whether M presence bits follow the features.
    """

    PRESENCE_BITS = False

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__(modalities, modality_features, out_features)
        width = modalities * (modality_features + self.PRESENCE_BITS)
        self.join = nn.Sequential(nn.Linear(width, out_features), nn.SiLU())

    @abstractmethod
    def fill(self) -> Tensor | None:
        """The features of absent modalities, (M, F); None for zeros."""

    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Fill, concatenate, apply the layer."""
        fill = self.fill()
        if fill is None:
            fill = torch.zeros(self.modalities, self.modality_features, device=like.device)
        absent = torch.zeros_like(like, dtype=torch.bool)
        joined: list[Tensor] = []
        bits: list[Tensor] = []
        for feature, mask, stand_in in zip(features, present, fill, strict=True):
            if feature is None or mask is None:
                joined.append(stand_in.expand(*like.shape, -1))
                bits.append(absent)
            else:
                joined.append(torch.where(mask.unsqueeze(-1), feature, stand_in))
                bits.append(mask)
        if self.PRESENCE_BITS:
            joined.append(torch.stack(bits, dim=-1).float())
        found: Tensor = self.join(torch.cat(joined, dim=-1))
        return found

    def from_hidden(
        self,
        hidden: Sequence[Tensor | None],
        last: Sequence[nn.Linear],
        present: Sequence[Tensor | None],
        like: Tensor,
    ) -> Tensor:
        """`forward` of the features last_m(hidden_m), in fewer multiplications. hidden: M of (B, T, E).

        Two successive linear layers are one: W (L h + b) = (W L) h + W b. Multiplying the weights first saves a tenth
        of a training step of wide models (docs/decisions/0052).
        """
        linear, fill = cast(nn.Linear, self.join[0]), self.fill()
        sizes = [self.modality_features] * self.modalities + [self.modalities * self.PRESENCE_BITS]
        *weights, bits = linear.weight.split(sizes, dim=1)
        shares = None if fill is None else [weight @ stand_in for weight, stand_in in zip(weights, fill, strict=True)]
        # the sum as if all modalities were absent, then the difference that each present one makes
        constant = linear.bias if shares is None else linear.bias + torch.stack(shares).sum(dim=0)
        total = constant.expand(*like.shape, -1)
        for index, (value, layer, mask) in enumerate(zip(hidden, last, present, strict=True)):
            if value is None or mask is None:
                continue
            weight = weights[index]
            bias = weight @ layer.bias
            if self.PRESENCE_BITS:
                bias = bias + bits[:, index]
            if shares is not None:
                bias = bias - shares[index]
            difference = functional.linear(value, weight @ layer.weight, bias)
            total = torch.addcmul(total, difference, mask.unsqueeze(-1).to(difference.dtype))
        found: Tensor = self.join[1](total)
        return found
