"""What every fusion does: the modalities of one time step become one feature vector, whichever of them are there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Base class of the ways to join. M modalities of F features each. Learned parameters belong to the subclass."""

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features: Sequence[Tensor | None], present: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Join M features (B, T, F), None for a modality without values, by their presence (B, T) bool.

        like: any (B, T) tensor. Returns (B, T, out_features).
        """

    @abstractmethod
    def behind(
        self,
        hidden: Sequence[Tensor | None],
        lasts: Sequence[nn.Linear],
        present: Sequence[Tensor | None],
        like: Tensor,
    ) -> Tensor:
        """The same of what the encoders have before their last layers `lasts`: M of (B, T, E).

        Two linear maps behind one another are one, and to multiply the two matrices first takes fewer products.
        """
