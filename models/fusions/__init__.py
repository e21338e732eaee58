"""Fusions: ways to join the features of the modalities at one time step, by name.

A package adds a fusion by an entry point in the group sensorium.fusions that names a subclass of `Fusion`, or of
`Concatenation`, which leaves only the stand-ins for absent features to say.
"""

from importlib.metadata import entry_points

from models.config.architecture import FUSIONS_GROUP
from models.fusions.fusion import Concatenation as Concatenation
from models.fusions.fusion import Fusion as Fusion
from models.fusions.missing_embeddings import MissingEmbeddings
from models.fusions.zero import ZeroConcatenation

FUSIONS: dict[str, type[Fusion]] = {"zero": ZeroConcatenation, "missing_embeddings": MissingEmbeddings}


def build(name: str, modalities: int, modality_features: int, out_features: int) -> Fusion:
    """The fusion of this name: a built-in one, or the subclass of `Fusion` that an entry point names."""
    if name in FUSIONS:
        return FUSIONS[name](modalities, modality_features, out_features)
    (found,) = entry_points(group=FUSIONS_GROUP, name=name)
    fusion: Fusion = found.load()(modalities, modality_features, out_features)
    return fusion
