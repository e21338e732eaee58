"""Whether the values of a dataset can be learned as a model would have it, as far as their statistics tell."""

from collections.abc import Mapping
from typing import Any

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.shared.errors import Fault, pointer


def misfits_of_values(config: MMVAEConfig | MMVRNNConfig, statistics: Mapping[str, Any]) -> list[Fault]:
    """Everything that would end the training before its first step."""
    found = []
    if (shortest := statistics.get("lengths", {}).get("minimum", 1)) < 1:
        detail = f"its shortest sequence has {shortest} time steps, expected at least one in each; leave those rows out"
        found.append(Fault("/dataset", "misfit", detail))
    for modality in config.modalities:
        figures = statistics.get("modalities", {}).get(modality.name, {})
        if figures.get("present") == 0:
            detail = f"no row has modality {modality.name!r}, expected it in some; leave it out of the dataset"
            found.append(Fault("/dataset", "misfit", detail))
        elif why := _outside(modality, figures):
            found.append(Fault(pointer("architecture", "modalities", modality.name, "likelihood"), "misfit", why))
    return found


def _outside(modality: ModalityConfig, figures: Mapping[str, Any]) -> str | None:
    """Why the likelihood gives some of the values no density; None where it does."""
    if "minimum" not in figures:
        return None
    least, most = figures["minimum"], figures["maximum"]
    what = f"modality {modality.name!r} has values from {least:g} to {most:g}"
    if modality.support.contains(least) and modality.support.contains(most):
        return None
    return f"{what}, and {modality.likelihood} is for {modality.support}; choose another likelihood"
