"""Named starting points: what a user wants of a model, as training choices. What is named in a request wins."""

from typing import Any, Literal

from models.config.frozen import Kind

Preset = Literal["joint-embedding", "cross-modal", "sequence-imputation", "forecasting"]

# Each holds what differs from the defaults: {"architecture": ..., "training": ...}.
PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    # one code for all that is given: seldom without a modality
    "joint-embedding": {"architecture": {}, "training": {"modality_dropout": 0.25}},
    # one modality from another: mostly without some
    "cross-modal": {"architecture": {}, "training": {"modality_dropout": 0.8}},
    # gaps in sequences: what comes later helps to fill them
    "sequence-imputation": {
        "architecture": {"inference": "smooth"},
        "training": {"burst_deletion": {"probability": 0.5, "longest": 0.4}},
    },
    # what comes next: the past alone
    "forecasting": {
        "architecture": {"inference": "filter"},
        "training": {"burst_deletion": {"probability": 0.3, "longest": 0.3}},
    },
}

OF_SEQUENCES: tuple[Preset, ...] = ("sequence-imputation", "forecasting")


def misfit(preset: Preset, kind: Kind) -> str | None:
    """Why a preset does not fit data of this kind, or None when it does."""
    if preset in OF_SEQUENCES and kind != "sequence":
        return f"preset {preset!r} is for sequences, and the dataset is {kind}"
    return None
