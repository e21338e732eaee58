"""`python -m worker.converter`: turns one upload into a stored dataset, in a process that a hostile file may break.

Spec: upload (path), layout arguments (arrays, declaration), result (path to write the dataset to).
"""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.config import default_likelihood
from service.datasets.layout import REJECTED, Declaration, Layout, plan
from service.shared import samples
from service.shared.errors import BadInput
from service.shared.npz import ArrayHeader
from service.shared.samples import Samples, Schema
from worker import protocol
from worker.convert import convert
from worker.statistics import describe


def run(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Convert as the spec says; the finished event has the stored file, its rows, schema and statistics."""
    declaration = Declaration.model_validate(spec["declaration"])
    layout = plan([ArrayHeader(n, tuple(shape), np.dtype(dtype)) for n, shape, dtype in spec["arrays"]], declaration)

    def on_modality(done: int) -> None:
        fraction = done / (len(layout.modalities) + 1)
        emit({"event": "progress", "phase": "validating", "fraction": fraction, "eta_seconds": None})

    try:
        converted = convert(Path(spec["upload"]), layout, declaration.nan == "missing", on_modality)
    except BadInput as error:
        raise BadInput(error.faults, code=REJECTED) from error
    if stopping.is_set():
        return None
    statistics = describe(converted)
    converted = suggest(converted, statistics, layout)
    result = Path(spec["result"])
    samples.write(result, converted)
    return {
        "result": str(result),
        "rows": converted.rows,
        "schema": converted.schema.model_dump(mode="json"),
        "statistics": statistics,
    }


def suggest(converted: Samples, statistics: dict[str, Any], layout: Layout) -> Samples:
    """The dataset, its schema with the likelihood that fits each modality."""
    integral = {modality.name: modality.integral for modality in layout.modalities}
    modalities = []
    for modality in converted.schema.modalities:
        figures = {**statistics["modalities"][modality.name], "integral": integral[modality.name]}
        fitting = default_likelihood(modality.dtype, modality.categories, figures)
        modalities.append(modality.model_copy(update={"likelihood": fitting}))
    return replace(converted, schema=Schema(kind=converted.schema.kind, modalities=tuple(modalities)))


if __name__ == "__main__":
    protocol.run(run)
