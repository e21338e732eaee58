"""Partial payloads: nested lists of any subset of the modalities become arrays with masks, and answers become lists.

Every fault names its place: `modality 'audio' has 39 features at inputs.audio[3], expected 40`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.inference.values import Array, Misfit, array_of, is_surely_finite, shown
from service.shared.errors import BadInput, Fault, TooLarge, pointer

Config = MMVAEConfig | MMVRNNConfig

Place = tuple[str | int, ...]

MOST_FAULTS = 20
MOST_TARGETS = 100
MOST_BYTES = 512 * 1024**2
"""Of the values of one request, of all that wait, and of a batch."""


@dataclass(frozen=True)
class Rows:
    """Samples of which each has some of the modalities.

    values: name -> (B, *shape) or (B, T, *shape). present: name -> (B,) or (B, T) bool. lengths: (B,) or None.
    """

    count: int
    values: dict[str, Array]
    present: dict[str, Array]
    lengths: Array | None

    @property
    def steps(self) -> int:
        """Of the longest sequence; 1 of samples."""
        return 1 if self.lengths is None else int(self.lengths.max(initial=1))

    @property
    def nbytes(self) -> int:
        """What the values take, with what stands in for missing ones."""
        return sum(array.nbytes for array in self.values.values())


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for. `steps` counts those of all rows, padded to the longest, times the draws."""

    rows: int
    steps: int
    draws: int = 1


def parse_rows(inputs: Any, config: Config, limits: Limits) -> Rows:
    """Read `inputs`: modality -> a list of values, null for a sample that lacks it. Sequences are lists of steps.

    Raises BadInput with the place of every fault.
    """
    known = {modality.name: modality for modality in config.modalities}
    columns = _columns(inputs, known, limits.rows)
    count = len(next(iter(columns.values())))
    faults: list[Fault] = []
    if config.kind == "static":
        check_size(count, 1, limits)
        rows = _static(columns, known, count, faults)
    else:
        rows = _sequences(columns, known, count, limits, faults)
    if not faults and not any(np.count_nonzero(mask) == mask.size for mask in rows.present.values()):
        present = np.zeros(count, dtype=bool)
        for mask in rows.present.values():
            present |= mask if mask.ndim == 1 else mask.any(axis=1)
        faults = [
            Fault("/inputs", "no_modality", f"row {row} has no modality at all, expected at least one")
            for row in np.flatnonzero(~present)[:MOST_FAULTS]
        ]
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    return rows


def parse_targets(targets: Any, config: Config) -> list[str]:
    """The modalities to reconstruct: all of them when none are named. Raises BadInput."""
    known = [modality.name for modality in config.modalities]
    if targets is None:
        return known
    if not isinstance(targets, list) or not targets:
        raise BadInput([Fault("/targets", "bad_targets", f"targets is {shown(targets)}, expected a list of names")])
    faults = [
        Fault(f"/targets/{i}", "unknown_modality", f"targets[{i}] is {shown(name)}, expected one of {known}")
        for i, name in enumerate(targets[:MOST_TARGETS])
        if name not in known
    ]
    if len(targets) > MOST_TARGETS:
        faults.append(
            Fault("/targets", "too_many", f"targets has {len(targets)} names, expected at most {MOST_TARGETS}")
        )
    if faults:
        raise BadInput(faults[:MOST_FAULTS])
    return list(dict.fromkeys(targets))


def answerable(answer: Array, lengths: Array | None) -> Any:
    """An answer as JSON takes it: (B, …) as it is, (B, T, …) as a list of (T_i, …) without the padding.

    Raises BadInput when a row's answer is no number: its input lies too far from anything the model has seen.
    """
    if answer.dtype == object:  # texts, which orjson writes from lists alone
        return answer.tolist() if lengths is None else [r[:n].tolist() for r, n in zip(answer, lengths, strict=True)]
    if not is_surely_finite(answer):
        _check_finite(answer, lengths)
    answer = np.ascontiguousarray(answer)  # orjson writes no other
    if lengths is None:
        return answer
    return [row[:length] for row, length in zip(answer, lengths, strict=True)]


def _check_finite(answer: Array, lengths: Array | None) -> None:
    finite = np.isfinite(answer)
    if lengths is not None:  # what stands in the padding means nothing
        finite |= np.arange(answer.shape[1]).reshape(-1, *[1] * (answer.ndim - 2)) >= lengths.reshape(
            -1, *[1] * (answer.ndim - 1)
        )
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        detail = f"row {row} has values so far from the training data that its answer is no finite number"
        raise BadInput([Fault("/inputs", "out_of_range", detail)])


def shaped(tree: Mapping[str, Any], lengths: Array | None) -> dict[str, Any]:
    """All arrays of an answer, `answerable`."""
    return {
        name: shaped(one, lengths) if isinstance(one, Mapping) else answerable(one, lengths)
        for name, one in tree.items()
    }


def _columns(inputs: Any, known: dict[str, ModalityConfig], most_rows: int) -> dict[str, list[Any]]:
    """The inputs as one list per modality, all of one length."""
    if not isinstance(inputs, dict) or not inputs:
        detail = f"inputs is {shown(inputs)}, expected an object with at least one of the modalities {sorted(known)}"
        raise BadInput([Fault("/inputs", "no_modality", detail)])
    faults = []
    for name, column in islice(inputs.items(), MOST_FAULTS + len(known)):
        if name not in known:
            detail = f"inputs has a modality {name[:100]!r}, expected some of {sorted(known)}"
            faults.append(Fault(pointer("inputs", name), "unknown_modality", detail))
        elif not isinstance(column, list) or not column:
            detail = f"inputs.{name} is {shown(column)}, expected a list with one value or null a sample"
            faults.append(Fault(pointer("inputs", name), "not_a_list", detail))
    if faults:
        raise BadInput(faults)
    counts = {name: len(column) for name, column in inputs.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(
            [Fault("/inputs", "row_counts_differ", f"the modalities have different numbers of rows: {counts}")]
        )
    count = next(iter(counts.values()))
    if count > most_rows:
        raise BadInput([Fault("/inputs", "too_many_rows", f"{count} rows, expected at most {most_rows}")])
    return inputs


def check_size(rows: int, longest: int, limits: Limits, place: str = "/inputs") -> None:
    """Before anything is allocated: one long row pads all others to its length. Raises BadInput at `place`."""
    steps = rows * longest * limits.draws
    if steps > limits.steps:
        detail = f"{rows} rows x {longest} steps x {limits.draws} draws are {steps}, expected at most {limits.steps}"
        raise BadInput([Fault(place, "too_large", detail)])


def _check_bytes(count: int, modalities: Iterable[ModalityConfig]) -> None:
    """Nulls are short, and zeros in their place are not. Raises TooLarge before any of them is there."""
    size = 0
    for modality in modalities:
        size += count * math.prod(modality.shape) * np.dtype(modality.dtype).itemsize
        if size > MOST_BYTES:
            detail = f"inputs.{modality.name} has room for {count} values of shape {list(modality.shape)}: {size} bytes"
            expected = f"with zeros for what is missing, and the modalities before it, expected at most {MOST_BYTES}"
            raise TooLarge("rows_too_large", f"{detail} {expected}; send fewer rows")


def _static(columns: dict[str, list[Any]], known: dict[str, ModalityConfig], count: int, faults: list[Fault]) -> Rows:
    values, present = {}, {}
    _check_bytes(count, (known[name] for name in columns))
    for name, column in columns.items():
        values[name], present[name] = _filled(column, known[name], ("inputs", name), faults)
    return Rows(count, values, present, None)


def _sequences(
    columns: dict[str, list[Any]], known: dict[str, ModalityConfig], count: int, limits: Limits, faults: list[Fault]
) -> Rows:
    lengths = np.zeros(count, dtype=np.int64)
    for name, column in columns.items():
        for row, steps in enumerate(column):
            if steps is None:
                continue
            if len(faults) == MOST_FAULTS:
                break
            if not isinstance(steps, list) or not steps:
                detail = f"inputs.{name}[{row}] is {shown(steps)}, expected a list of time steps or null"
                faults.append(Fault(pointer("inputs", name, row), "not_a_sequence", detail))
            elif lengths[row] not in (0, len(steps)):
                detail = f"inputs.{name}[{row}] has {len(steps)} steps, another modality of the row has {lengths[row]}"
                faults.append(Fault(pointer("inputs", name, row), "lengths_differ", detail))
            else:
                lengths[row] = len(steps)
    values: dict[str, Array] = {}
    present: dict[str, Array] = {}
    if faults:
        return Rows(count, values, present, lengths)
    longest = int(lengths.max(initial=1))
    check_size(count, longest, limits)
    _check_bytes(count * longest, (known[name] for name in columns))
    for name, column in columns.items():
        modality = known[name]
        values[name] = np.zeros((count, longest, *modality.shape), dtype=modality.dtype)
        present[name] = np.zeros((count, longest), dtype=bool)
        for row, steps in enumerate(column):
            if steps is not None:
                filled, given = _filled(steps, modality, ("inputs", name, row), faults)
                values[name][row, : len(steps)] = filled
                present[name][row, : len(steps)] = given
    return Rows(count, values, present, lengths)


def _filled(items: list[Any], modality: ModalityConfig, place: Place, faults: list[Fault]) -> tuple[Array, Array]:
    """Values (N, *shape) with zeros for nulls, and which were given (N,)."""
    if None not in items:
        array = array_of(items, modality)
        if not isinstance(array, Misfit):
            return array, np.ones(len(items), dtype=bool)
    values = np.zeros((len(items), *modality.shape), dtype=modality.dtype)
    present = np.array([item is not None for item in items], dtype=bool)
    given = [item for item in items if item is not None]
    if given:
        array = array_of(given, modality)
        if isinstance(array, Misfit):
            faults.extend(_misfits(items, modality, place)[: MOST_FAULTS - len(faults)])
        else:
            values[present] = array
    return values, present


def _misfits(items: list[Any], modality: ModalityConfig, place: Place) -> list[Fault]:
    """The first items that are no value of a modality: only reached when the whole did not fit."""
    faults = []
    for i, wrong in islice(_wrong(items, 0, len(items), modality), MOST_FAULTS):
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*place, i))[1:]
        detail = f"modality {modality.name!r} has {wrong.came} at {where}, expected {wrong.expected}"
        faults.append(Fault(pointer(*place, i), "bad_value", detail))
    return faults


def _wrong(items: list[Any], first: int, last: int, modality: ModalityConfig) -> Iterator[tuple[int, Misfit]]:
    """What is wrong between two places, by halves: to look at each item alone took 5 µs for every good one."""
    given = [item for item in items[first:last] if item is not None]
    wrong = array_of(given, modality) if given else None
    if not isinstance(wrong, Misfit):
        return
    if last - first == 1:
        yield first, wrong
        return
    middle = (first + last) // 2
    yield from _wrong(items, first, middle, modality)
    yield from _wrong(items, middle, last, modality)
