"""Concatenation with learned vectors for what is missing."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.fusions.fusion import Fusion


class MissingEmbeddings(Fusion):
    """Concatenation; a learned vector stands in for a missing modality, and presence bits tell which are real."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__(modalities, modality_features, out_features)
        self.missing = nn.Parameter(torch.zeros(modalities, modality_features))
        self.join = nn.Sequential(nn.Linear(modalities * (modality_features + 1), out_features), nn.SiLU())

    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Linear and SiLU of the concatenation and the bits."""
        absent = torch.zeros_like(like, dtype=torch.bool)
        masks = [absent if mask is None else mask for mask in present]
        filled = [
            stand_in.expand(*like.shape, -1) if feature is None else torch.where(mask.unsqueeze(-1), feature, stand_in)
            for feature, mask, stand_in in zip(features, masks, self.missing, strict=True)
        ]
        joined: Tensor = self.join(torch.cat([*filled, torch.stack(masks, dim=-1).float()], dim=-1))
        return joined

    def behind(
        self,
        hidden: Sequence[Tensor | None],
        lasts: Sequence[nn.Linear],
        present: Sequence[Tensor | None],
        like: Tensor,
    ) -> Tensor:
        """The sum over all modalities, of what is missing its learned vector's share, and SiLU."""
        linear = cast(nn.Linear, self.join[0])
        modalities, width = self.missing.shape
        *parts, bits = linear.weight.split([width] * modalities + [modalities], dim=1)
        absent = [part @ stand_in for part, stand_in in zip(parts, self.missing, strict=True)]
        total = (linear.bias + torch.stack(absent).sum(dim=0)).expand(*like.shape, -1)
        for index, (value, last, mask) in enumerate(zip(hidden, lasts, present, strict=True)):
            if mask is None:
                continue
            if value is None:
                instead: Tensor = bits[:, index].expand(*like.shape, -1)
            else:
                part = parts[index]
                constant = part @ last.bias + bits[:, index] - absent[index]
                instead = functional.linear(value, part @ last.weight, constant)
            total = torch.addcmul(total, instead, mask.unsqueeze(-1).to(instead.dtype))
        joined: Tensor = self.join[1](total)
        return joined
