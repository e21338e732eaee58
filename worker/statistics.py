"""What a dataset holds, in figures: rows, lengths, presence and the values of every modality."""

from typing import Any

import numpy as np

from service.shared.samples import Samples


def describe(samples: Samples) -> dict[str, Any]:
    """Statistics of the present values, per modality. Lengths are in steps, presence counts samples or steps."""
    modalities = {}
    for modality in samples.schema.modalities:
        present = samples.present[modality.name]
        given = samples.values[modality.name][present]
        figures: dict[str, Any] = {"present": int(present.sum()), "absent": int((~present).sum())}
        if modality.categories is not None:
            figures["counts"] = np.bincount(given, minlength=modality.categories).tolist()
        elif given.size:
            figures |= {
                "mean": float(given.mean(dtype=np.float64)),
                "standard_deviation": float(given.std(dtype=np.float64)),
                "minimum": float(given.min()),
                "maximum": float(given.max()),
            }
        modalities[modality.name] = figures
    statistics: dict[str, Any] = {"modalities": modalities}
    if samples.offsets is not None:
        lengths = np.diff(samples.offsets)
        statistics["lengths"] = {
            "minimum": int(lengths.min()),
            "mean": float(lengths.mean()),
            "maximum": int(lengths.max()),
        }
    return statistics
