"""From a stored dataset to batches, and what the training has to know of it beforehand."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch
from models.config import MMVAEConfig, MMVRNNConfig
from service.shared.samples import Samples, Schema

Rows = NDArray[np.int64]
# Steps or samples read at once where all of a dataset is read: it may be larger than memory.
CHUNK = 16_384


class UnusableData(ValueError):
    """A dataset that a model of this configuration cannot be trained on; the message lists every fault."""


def check(samples: Samples, config: MMVAEConfig | MMVRNNConfig) -> None:
    """Raise UnusableData unless the dataset has the config's kind and modalities, and every row has something."""
    schema = samples.schema
    if schema.kind != config.kind:
        raise UnusableData(
            f"the dataset is {schema.kind}, expected {config.kind} for architecture {config.architecture}"
        )
    found = {modality.name: (modality.shape, modality.categories) for modality in schema.modalities}
    faults = []
    for modality in config.modalities:
        wanted = (modality.shape, modality.categories)
        if modality.name not in found:
            faults.append(f"modality {modality.name!r} is missing, the dataset has {', '.join(sorted(found))}")
        elif found[modality.name] != wanted:
            shape, categories = found[modality.name]
            faults.append(
                f"modality {modality.name!r} has shape {shape} and categories {categories}, "
                f"expected {modality.shape} and {modality.categories}"
            )
        elif not samples.present[modality.name].any():
            faults.append(f"modality {modality.name!r} is absent from every row, expected it in some")
    if faults:
        raise UnusableData("; ".join(faults))
    names = [modality.name for modality in config.modalities]
    empty = np.flatnonzero(~_rows_with_something(samples, names))
    if len(empty):
        raise UnusableData(
            f"{len(empty)} rows have none of the modalities {', '.join(names)}, expected at least one in each; "
            f"the first is row {empty[0]}"
        )


def select(samples: Samples, config: MMVAEConfig | MMVRNNConfig) -> Samples:
    """The dataset with only the modalities that the config models; nothing is read."""
    wanted = {modality.name for modality in config.modalities}
    modalities = tuple(modality for modality in samples.schema.modalities if modality.name in wanted)
    return replace(samples, schema=Schema(kind=samples.schema.kind, modalities=modalities))


def batch_of(samples: Samples, rows: Rows) -> Batch:
    """The rows as a batch; sequences are padded to the longest of them. Only these rows are read."""
    if samples.offsets is None:
        places, valid, lengths = rows, None, None
    else:
        starts = samples.offsets[rows]
        lengths = samples.offsets[rows + 1] - starts
        steps = np.arange(lengths.max())
        valid = steps < lengths[:, None]  # (B, T)
        # Padding reads step 0 of the dataset and is overwritten below.
        places = np.where(valid, starts[:, None] + steps, 0)
    values, present = {}, {}
    for modality in samples.schema.modalities:
        value = samples.values[modality.name][places]
        mask = samples.present[modality.name][places]
        if valid is not None:
            value[~valid] = 0
            mask &= valid
        dtype = np.float32 if modality.categories is None else np.int64
        values[modality.name] = torch.from_numpy(value.astype(dtype, copy=False))
        present[modality.name] = torch.from_numpy(mask)
    return Batch(values, present, None if lengths is None else torch.from_numpy(lengths))


def statistics(samples: Samples, rows: Rows) -> dict[str, tuple[Tensor, Tensor]]:
    """Elementwise mean and standard deviation of every modality that has no categories, over its present values.

    Two passes in float64 over chunks: the square of a large mean never has to cancel. Never present: (0, 1).
    """
    found = {}
    for modality in samples.schema.modalities:
        if modality.categories is not None:
            continue
        count, total = 0, np.zeros(modality.shape)
        for value in _present_values(samples, modality.name, rows):
            count += len(value)
            total += value.sum(axis=0)
        mean = total / max(count, 1)
        squares = np.zeros(modality.shape)
        for value in _present_values(samples, modality.name, rows):
            squares += np.square(value - mean).sum(axis=0)
        deviation = np.sqrt(squares / count) if count else np.ones(modality.shape)
        found[modality.name] = (torch.as_tensor(mean), torch.as_tensor(deviation))
    return found


def observed_values_per_row(samples: Samples) -> float:
    """Mean number of scalars that a row really has, over all modalities and steps; a category counts as one."""
    total = sum(
        int(np.prod(modality.shape)) * int(np.count_nonzero(samples.present[modality.name]))
        for modality in samples.schema.modalities
    )
    return total / samples.rows


def _present_values(samples: Samples, name: str, rows: Rows) -> Iterator[NDArray[np.float64]]:
    places = rows if samples.offsets is None else _steps_of(samples.offsets, rows)
    for start in range(0, len(places), CHUNK):
        chunk = places[start : start + CHUNK]
        chunk = chunk[samples.present[name][chunk]]
        yield samples.values[name][chunk].astype(np.float64)


def _steps_of(offsets: NDArray[np.int64], rows: Rows) -> Rows:
    """The packed positions of all steps of these sequences, one after the other."""
    lengths = offsets[rows + 1] - offsets[rows]
    first = np.cumsum(lengths) - lengths
    return np.repeat(offsets[rows] - first, lengths) + np.arange(lengths.sum())


def _rows_with_something(samples: Samples, names: list[str]) -> NDArray[np.bool_]:
    something: NDArray[np.bool_] = np.logical_or.reduce([samples.present[name] for name in names])
    if samples.offsets is None:
        return something
    before = np.concatenate([[0], np.cumsum(something)])
    return np.diff(before[samples.offsets]) > 0
