"""What is asked of a version about some rows, and how questions of several callers become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from service.inference.payload import Config, Rows
from service.inference.values import Array

Operation = Literal["encode", "reconstruct", "score", "forecast", "sample"]
Tree = Mapping[str, Any]
"""Arrays (B, ...) by name, or such trees."""


@dataclass(frozen=True)
class Loadable:
    """A model version as an engine needs it: what to load, and how to recognise that it is whole."""

    id: str
    project_id: str = field(compare=False)
    model: str = field(compare=False)
    number: int = field(compare=False)
    sha256: str = field(compare=False)
    size_bytes: int = field(compare=False)


@dataclass(frozen=True)
class Version(Loadable):
    """A model version as a route needs it: how to read what callers send."""

    config: Config = field(compare=False)


@dataclass(frozen=True)
class Question:
    """An operation of a version. Rows of one question share a batch, whoever asks it; draws from the prior do not.

    arguments: of the predictor's method, beside the rows. goes_on: whether every row has a state to go on from.
    """

    version: Loadable
    operation: Operation
    arguments: Mapping[str, Any] = field(default_factory=dict)
    goes_on: bool = False


def merged(parts: Sequence[Rows]) -> Rows:
    """All rows behind one another: a modality that a part lacks is absent there, and sequences are padded."""
    if len(parts) == 1:
        return parts[0]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    longest = max(int(each.max(initial=1)) for each in lengths) if lengths else None
    count = sum(part.count for part in parts)
    values: dict[str, Array] = {}
    present: dict[str, Array] = {}
    first = 0
    for part in parts:
        place = slice(first, first + part.count)
        for name, array in part.values.items():
            steps = () if longest is None else (longest,)
            if name not in values:
                item = array.shape[1 + len(steps) :]
                values[name] = np.zeros((count, *steps, *item), array.dtype)
                present[name] = np.zeros((count, *steps), dtype=bool)
            inside = (place,) if longest is None else (place, slice(0, array.shape[1]))
            values[name][inside] = array
            present[name][inside] = part.present[name]
        first += part.count
    return Rows(count, values, present, np.concatenate(lengths) if lengths else None)


def part_of(tree: Tree, rows: slice) -> dict[str, Any]:
    """What of an answer is about some of the rows, as far padded as the longest of all."""
    return {name: part_of(one, rows) if isinstance(one, Mapping) else one[rows] for name, one in tree.items()}
