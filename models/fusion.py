"""Fusion: how the modalities of one time step become one feature vector, whichever of them are there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Base class of the ways to join. M modalities of F features each."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Join M features (B, T, F), None for a modality without values, by their presence (B, T) bool.

        like: any (B, T) tensor. Returns (B, T, out_features).
        """


class ZeroConcatenation(Fusion):
    """Concatenation with zeros for what is missing, the original's way: an observation can look the same."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__()
        self.modality_features = modality_features
        self.join = nn.Sequential(nn.Linear(modalities * modality_features, out_features), nn.SiLU())

    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Linear and SiLU of the concatenation."""
        zeros = torch.zeros(*like.shape, self.modality_features, device=like.device)
        filled = [
            zeros if feature is None or mask is None else torch.where(mask.unsqueeze(-1), feature, zeros)
            for feature, mask in zip(features, present, strict=True)
        ]
        joined: Tensor = self.join(torch.cat(filled, dim=-1))
        return joined


class MissingEmbeddings(Fusion):
    """Concatenation; a learned vector stands in for a missing modality, and presence bits tell which are real."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__()
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
