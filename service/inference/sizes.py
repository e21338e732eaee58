"""How much a question asks for, in numbers that are computed or answered; said before anything is allocated."""

import math
from collections.abc import Mapping

from models.config import ModalityConfig
from service.inference.payload import MOST_BYTES, Config, Rows
from service.inference.questions import Question
from service.shared.errors import BadInput, Fault, TooLarge

# Half a gibibyte each, once as likelihood parameters and again on the way there.
MOST_COMPUTED = 2**27
# As JSON about ten bytes each.
MOST_ANSWERED = 2**25


def check(question: Question, rows: Rows, config: Config) -> None:
    """Raises BadInput for an answer, or a computation, that no process should hold, and TooLarge for such rows."""
    if rows.nbytes > MOST_BYTES:
        detail = f"the rows take {rows.nbytes} bytes, with zeros for what is missing, expected at most {MOST_BYTES}"
        raise TooLarge("rows_too_large", detail)
    if question.operation not in ("reconstruct", "forecast", "sample"):
        return
    arguments = question.arguments
    asked = arguments.get("targets")
    features = sum(_features(modality) for modality in config.modalities if asked is None or modality.name in asked)
    steps = int(arguments.get("horizon") or arguments.get("steps") or rows.steps)
    values = rows.count * steps * features
    draws = max(int(arguments.get("n_samples", 1)), 1)
    words = f"{rows.count} rows x {steps} steps x {features} numbers of the targets"
    if values * _kinds(arguments) > MOST_ANSWERED:
        detail = f"{words} x {_kinds(arguments)} figures of each are too many for one answer, expected {MOST_ANSWERED}"
        raise BadInput([Fault("/targets", "answer_too_large", f"{detail} at most; ask for fewer rows or targets")])
    if values * draws > MOST_COMPUTED:
        detail = f"{words} x {draws} draws are too many to be computed at once, expected {MOST_COMPUTED} at most"
        raise BadInput([Fault("/n_samples", "too_large", detail)])


def row_bytes(rows: Rows) -> dict[str, int]:
    """What a time step (or a sample) of each modality takes."""
    axes = 1 if rows.lengths is None else 2
    return {name: array.itemsize * math.prod(array.shape[axes:]) for name, array in rows.values.items()}


def _features(modality: ModalityConfig) -> int:
    return modality.categories or math.prod(modality.shape)


def _kinds(arguments: Mapping[str, object]) -> int:
    """Mean and deviation, and quantiles."""
    quantiles = arguments.get("quantiles")
    return 2 + (len(quantiles) if isinstance(quantiles, list | tuple) else 0)
