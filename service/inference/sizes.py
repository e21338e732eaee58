"""How much a question asks for, in numbers that are computed or answered; said before anything is allocated."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from models.config import ModalityConfig
from service.inference.category_names import name_length
from service.inference.payload import MOST_BYTES, Config, Rows
from service.inference.questions import Question
from service.shared.errors import BadInput, Fault, TooLarge

# Half a gibibyte each, once as likelihood parameters and again on the way there.
MOST_COMPUTED = 2**27
# As JSON about ten bytes each.
MOST_ANSWERED = 2**25
CHARACTERS = 10
# A batch of several requests gains nothing from more, and workers answer it as one value of Redis, at most 512 MB.
MOST_TOGETHER = 2**25


class Places(NamedTuple):
    """Where a request says what it wants answered, and how often it is to be drawn."""

    targets: str = "/targets"
    draws: str = "/n_samples"


class _Step(NamedTuple):
    """What a question takes for every time step of a row, in numbers."""

    computed: int
    answered: int
    too_much_computed: str
    too_much_answered: str


V1 = Places()
V2 = Places("/outputs", "/parameters/n_samples")


def check(question: Question, rows: Rows, config: Config, places: Places = V1) -> int:
    """The numbers that a time step of a row takes, for the batch that it will be in.

    Raises BadInput for an answer, or a computation, that no process should hold, and TooLarge for such rows.
    """
    if rows.nbytes > MOST_BYTES:
        detail = f"the rows take {rows.nbytes} bytes, with zeros for what is missing, expected at most {MOST_BYTES}"
        raise TooLarge("rows_too_large", detail)
    step, steps = _step(question, rows, config, places), steps_of(question, rows)
    count = rows.count * steps
    words = f"{rows.count} rows x {steps} steps"
    if count * step.answered > MOST_ANSWERED:
        detail = f"{words} x {step.answered} numbers are too many for one answer, expected {MOST_ANSWERED} at most"
        raise BadInput([Fault(step.too_much_answered, "answer_too_large", f"{detail}; ask for less at once")])
    if count * step.computed > MOST_COMPUTED:
        detail = f"{words} x {step.computed} numbers, draws included, are too many to be computed at once"
        raise BadInput([Fault(step.too_much_computed, "too_large", f"{detail}, expected {MOST_COMPUTED} at most")])
    return max(step.computed, step.answered)


def draws_of(question: Question) -> int:
    """How often every time step is computed."""
    return max(int(question.arguments.get("n_samples", 1)), 1)


def steps_of(question: Question, rows: Rows) -> int:
    """Of the longest sequence that is given, or is to be made."""
    arguments = question.arguments
    return max(rows.steps, int(arguments.get("horizon") or arguments.get("steps") or 1))


def row_bytes(rows: Rows) -> dict[str, int]:
    """What a time step (or a sample) of each modality takes."""
    axes = 1 if rows.lengths is None else 2
    return {name: array.itemsize * math.prod(array.shape[axes:]) for name, array in rows.values.items()}


def _step(question: Question, rows: Rows, config: Config, places: Places) -> _Step:
    arguments = question.arguments
    match question.operation:
        case "encode":
            codes = 2 * config.code_features
            return _Step(codes, codes, "/inputs", "/inputs")
        case "score":  # goes through the draws one after the other
            return _Step(_numbers(config, rows.values), 2 + len(rows.values), "/inputs", "/inputs")
        case "reconstruct":
            numbers = _numbers(config, arguments["targets"])
            answered = _answered(config, arguments["targets"]) + _names(config, arguments["targets"])
            return _Step(numbers * draws_of(question), answered, places.draws, places.targets)
        case "forecast":  # every modality is drawn: what comes after it depends on it
            quantiles = _count(arguments.get("quantiles")) * _numbers(config, arguments["targets"])
            answered = quantiles + _answered(config, arguments["targets"]) + _names(config, arguments["targets"])
            return _Step(_numbers(config) * draws_of(question), answered, places.draws, places.targets)
        case "sample":  # the value, and what it was drawn from
            numbers = _numbers(config)
            answered = numbers + _answered(config) + 2 * _names(config)
            return _Step(numbers, answered, "/rows", "/rows")


def _numbers(config: Config, names: Sequence[str] | Mapping[str, object] | None = None) -> int:
    """Of these modalities together, all by default."""
    return sum(_features(modality) for modality in config.modalities if names is None or modality.name in names)


def _answered(config: Config, names: Sequence[str] | None = None) -> int:
    """Of the predictions of these modalities together, all by default."""
    return sum(
        math.prod(output.shape(modality.shape, modality.categories))
        for modality in config.modalities
        if names is None or modality.name in names
        for output in modality.facts.outputs
    )


def _features(modality: ModalityConfig) -> int:
    return modality.categories or math.prod(modality.shape)


def _names(config: Config, names: Sequence[str] | None = None) -> int:
    """Of the category names that answers have beside numbers, counted as the numbers that take as many characters."""
    modalities = [modality for modality in config.modalities if names is None or modality.name in names]
    return sum(math.ceil(name_length(modality) / CHARACTERS) for modality in modalities)


def _count(quantiles: object) -> int:
    return len(quantiles) if isinstance(quantiles, list | tuple) else 0
