"""Concatenation with zeros for what is missing."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.fusions.fusion import Fusion


class ZeroConcatenation(Fusion):
    """Concatenation with zeros for what is missing, the original's way: an observation can look the same."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__(modalities, modality_features, out_features)
        self.modality_features = modality_features
        self.join = nn.Sequential(nn.Linear(modalities * modality_features, out_features), nn.SiLU())

    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Linear and SiLU of the concatenation."""
        zeros = torch.zeros(*like.shape, self.modality_features, device=like.device)
        absent = torch.zeros_like(like, dtype=torch.bool)
        filled = [zeros if feature is None else feature for feature in features]
        masks = torch.stack([absent if mask is None else mask for mask in present], dim=-1)  # (B, T, M)
        # one product: a choice between features and zeros would also have a gradient for the zeros
        kept = torch.cat(filled, dim=-1).unflatten(-1, (len(filled), -1)) * masks.unsqueeze(-1).float()
        joined: Tensor = self.join(kept.flatten(2))
        return joined

    def behind(
        self,
        hidden: Sequence[Tensor | None],
        lasts: Sequence[nn.Linear],
        present: Sequence[Tensor | None],
        like: Tensor,
    ) -> Tensor:
        """The sum over the present modalities, and SiLU."""
        linear = cast(nn.Linear, self.join[0])
        total = linear.bias.expand(*like.shape, -1)
        parts = linear.weight.split(self.modality_features, dim=1)
        for value, last, mask, part in zip(hidden, lasts, present, parts, strict=True):
            if value is not None and mask is not None:
                own = functional.linear(value, part @ last.weight, part @ last.bias)
                total = torch.addcmul(total, own, mask.unsqueeze(-1).to(own.dtype))
        joined: Tensor = self.join[1](total)
        return joined
