"""Concatenation with learned vectors for absent features."""

import torch
from torch import Tensor, nn

from models.fusions.fusion import Concatenation


class MissingEmbeddings(Concatenation):
    """A learned vector per modality stands in for absent features, and presence bits tell the two apart."""

    PRESENCE_BITS = True

    def __init__(self, modalities: int, modality_features: int, out_features: int) -> None:
        super().__init__(modalities, modality_features, out_features)
        self.missing = nn.Parameter(torch.zeros(modalities, modality_features))

    def fill(self) -> Tensor:
        """The learned vectors."""
        return self.missing
