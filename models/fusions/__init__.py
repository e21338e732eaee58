"""Fusions: ways of joining the modalities of one time step into one feature vector, by name.

A package adds fusions by an entry point in the group sensorium.fusions that names a subclass of `Fusion`.
"""

from importlib.metadata import entry_points

from models.config.architecture import FUSIONS_GROUP
from models.fusions.fusion import Fusion as Fusion
from models.fusions.missing_embeddings import MissingEmbeddings
from models.fusions.zero import ZeroConcatenation

FUSIONS: dict[str, type[Fusion]] = {"zero": ZeroConcatenation, "missing_embeddings": MissingEmbeddings}


def build(name: str, modalities: int, modality_features: int, out_features: int) -> Fusion:
    """The fusion of this name: one of ours, or a subclass of Fusion that an entry point in sensorium.fusions names."""
    if name in FUSIONS:
        return FUSIONS[name](modalities, modality_features, out_features)
    (found,) = entry_points(group=FUSIONS_GROUP, name=name)
    fusion: Fusion = found.load()(modalities, modality_features, out_features)
    return fusion
