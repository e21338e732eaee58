"""Limit how many numbers a query computes and answers, before anything is allocated."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from models.config import MMVRNNConfig, ModalityConfig
from models.config.conditional import MAX_VALUES, MIN_CODES, values_per_row
from models.config.modality import CategoryNames
from service.inference.queries import Computation, Config, Query
from service.inference.rows import MAX_BYTES, Rows
from service.shared.errors import BadInput, Fault, TooLarge

# 0.5 GiB as likelihood parameters, and as much again for intermediate results.
MAX_COMPUTED = 2**27
# About 10 bytes each as JSON.
MAX_ANSWERED = 2**25
CHARACTERS_PER_NUMBER = 10


class _PerStep(NamedTuple):
    """Numbers for every time step of a row, and the parts of the request that ask for so many."""

    computed: int
    answered: int
    computed_pointer: str
    answered_pointer: str


def check(query: Query, computation: Computation, config: Config) -> int:
    """The numbers for one time step of a row, which limit the batch that the query joins.

    Raises BadInput for an answer or a computation that is too large for a process, TooLarge for such rows.
    """
    rows = query.rows
    if rows.nbytes > MAX_BYTES:
        detail = f"the rows take {rows.nbytes} bytes, with zeros for what is missing, expected at most {MAX_BYTES}"
        raise TooLarge("rows_too_large", detail)
    each, steps = _per_step(query, computation, config), computation.steps(rows)
    count = rows.count * steps
    size = f"{rows.count} rows x {steps} steps"
    if count * each.answered > MAX_ANSWERED:
        detail = f"{size} x {each.answered} numbers are too many for one answer, expected at most {MAX_ANSWERED}"
        raise BadInput([Fault(each.answered_pointer, "answer_too_large", f"{detail}; ask for less at once")])
    if count * each.computed > MAX_COMPUTED:
        detail = f"{size} x {each.computed} numbers, draws included, are too many to compute at once"
        raise BadInput([Fault(each.computed_pointer, "too_large", f"{detail}, expected at most {MAX_COMPUTED}")])
    return max(each.computed, each.answered)


def step_bytes(rows: Rows) -> dict[str, int]:
    """Bytes of a time step (or a sample) of each modality."""
    axes = 1 if rows.lengths is None else 2
    return {name: array.itemsize * math.prod(array.shape[axes:]) for name, array in rows.values.items()}


def _per_step(query: Query, computation: Computation, config: Config) -> _PerStep:
    arguments, pointers = query.arguments, query.pointers
    match query.operation:
        case "encode":
            codes = 2 * config.code_features
            return _PerStep(codes, codes, "/inputs", "/inputs")
        case "score":  # computes one draw after the other
            return _PerStep(_numbers(config, query.rows.values), 2 + len(query.rows.values), "/inputs", "/inputs")
        case "reconstruct":
            numbers = _numbers(config, arguments["targets"])
            answered = _outputs(config, arguments["targets"]) + _names(config, arguments["targets"])
            return _PerStep(numbers * computation.draws, answered, pointers.draws, pointers.targets)
        case "impute":  # the outputs, a value, the bounds of intervals and the draws
            targets, draws = arguments["targets"], int(arguments["draws"])
            values = (1 + draws) * (_elements(config, targets) + _names(config, targets))
            answered = values + _outputs(config, targets) + _names(config, targets) + _bounds(config, targets)
            computed = _numbers(config, targets) if config.conditional is None else _drawn(config, targets, draws)
            place = pointers.completions if draws else pointers.targets
            return _PerStep(computed, answered, place, place)
        case "forecast":
            quantiles = _count(arguments.get("quantiles")) * _numbers(config, arguments["targets"])
            answered = quantiles + _outputs(config, arguments["targets"]) + _names(config, arguments["targets"])
            if (
                config.conditional is not None and arguments["n_samples"]
            ):  # the steps before the forecast are drawn, too
                computed = 2 * _drawn(config, arguments["targets"], arguments["n_samples"])
            else:  # draws every modality: the next step depends on it
                computed = _numbers(config) * computation.draws
            return _PerStep(computed, answered, pointers.draws, pointers.targets)
        case "sample":  # the value and its distribution
            numbers = _numbers(config)
            answered = numbers + _outputs(config) + 2 * _names(config)
            return _PerStep(numbers, answered, "/rows", "/rows")


def _drawn(config: Config, names: Sequence[str], draws: int) -> int:
    """Numbers that a conditional part draws: of the values of these modalities, or of codes where these are more."""
    codes = config.latent_features + MAX_VALUES
    if isinstance(config, MMVRNNConfig) and config.conditional is not None:
        codes = config.conditional.code_features
    return max(_numbers(config, names) * values_per_row(draws), codes * max(draws, MIN_CODES))


def _numbers(config: Config, names: Sequence[str] | Mapping[str, object] | None = None) -> int:
    """Numbers of the values of these modalities together, all by default."""
    return sum(_features(modality) for modality in config.modalities if names is None or modality.name in names)


def _outputs(config: Config, names: Sequence[str] | None = None) -> int:
    """Numbers of the predictions of these modalities together, all by default."""
    return sum(
        math.prod(output.shape(modality.shape, modality.categories))
        for modality in config.modalities
        if names is None or modality.name in names
        for output in modality.facts.outputs
    )


def _elements(config: Config, names: Sequence[str]) -> int:
    """Numbers of one value of each of these modalities together; 1 for a category."""
    return sum(math.prod(modality.shape) for modality in config.modalities if modality.name in names)


def _bounds(config: Config, names: Sequence[str]) -> int:
    """Numbers of the bounds of these modalities' intervals together."""
    bounded = [modality.name for modality in config.modalities if modality.facts.quantiles]
    return 2 * _elements(config, [name for name in bounded if name in names])


def _features(modality: ModalityConfig) -> int:
    return modality.categories or math.prod(modality.shape)


def _names(config: Config, names: Sequence[str] | None = None) -> int:
    """Category names in answers, counted as the numbers that take as many characters."""
    modalities = [modality for modality in config.modalities if names is None or modality.name in names]
    lengths = (_longest(modality.category_names) for modality in modalities if modality.category_names)
    return sum(math.ceil(length / CHARACTERS_PER_NUMBER) for length in lengths)


@lru_cache(maxsize=256)
def _longest(names: CategoryNames) -> int:
    """Characters of the longest name."""
    return max(len(str(name)) for name in names)


def _count(quantiles: object) -> int:
    return len(quantiles) if isinstance(quantiles, list | tuple) else 0
