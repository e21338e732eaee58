"""Concatenation with zeros for absent features."""

from models.fusions.fusion import Concatenation


class ZeroConcatenation(Concatenation):
    """Zeros stand in for absent features, without presence bits: an observation whose features are 0 looks the same."""

    def fill(self) -> None:
        """Zeros."""
        return
