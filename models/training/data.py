"""Reads of a dataset: batches, statistics, and which rows have which modalities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.config import MMVAEConfig, MMVRNNConfig
from models.likelihoods import Chunk, Likelihood
from models.training.dataset import SPLITS, Array, Dataset

Rows = NDArray[np.int64]
# Numbers that are read at once where a whole dataset is read: it may be larger than memory.
CHUNK_NUMBERS = 2**22


def select(dataset: Dataset, config: MMVAEConfig | MMVRNNConfig) -> Dataset:
    """The dataset with only the modalities of the config. Reads nothing."""
    wanted = {modality.name for modality in config.modalities}
    modalities = tuple(modality for modality in dataset.modalities if modality.name in wanted)
    return replace(dataset, modalities=modalities)


def batch_of(dataset: Dataset, rows: Rows) -> Batch:
    """The rows as a batch. Sequences are padded to the longest of them. Reads only these rows."""
    if dataset.offsets is None:
        positions, valid, lengths = rows, None, None
    else:
        starts = dataset.offsets[rows]
        lengths = dataset.offsets[rows + 1] - starts
        steps = np.arange(lengths.max())
        valid = steps < lengths[:, None]  # (B, T)
        # padding reads step 0 of the dataset and is overwritten below
        positions = np.where(valid, starts[:, None] + steps, 0)
    values, present, leading = {}, {}, 1 if dataset.offsets is None else 2
    for modality in dataset.modalities:
        value = dataset.values[modality.name][positions]
        mask = dataset.present[modality.name][positions]
        if valid is not None:
            value[~valid] = 0
            mask[~valid] = False
        if mask.shape[leading:]:
            value[~mask] = 0
        dtype = np.float32 if modality.categories is None else np.int64
        values[modality.name] = torch.from_numpy(value.astype(dtype, copy=False))
        present[modality.name] = torch.from_numpy(mask)
    return Batch(values, present, None if lengths is None else torch.from_numpy(lengths))


def statistics(dataset: Dataset, model: Model, rows: Rows) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each element where it is present, for each likelihood that standardises values.

    Of `Likelihood.transformed`, such as log(1 + x) for counts. Two passes in float64 over chunks: the square of a large
    mean never cancels. An element that is never present gets the means over the other elements, or (0, 1).
    """
    found = {}
    for modality in model.modalities:
        likelihood = model.likelihood(modality.name)
        if not likelihood.needs_statistics:
            continue
        count, total, squares = np.zeros((3, *modality.shape))
        for chunk in _transformed(dataset, likelihood, modality.name, rows):
            count += chunk.counts
            total += chunk.total
        mean = total / np.maximum(count, 1)
        for chunk in _transformed(dataset, likelihood, modality.name, rows):
            squares += Chunk(np.square(chunk.values - mean), chunk.elements).total
        deviation = np.sqrt(squares / np.maximum(count, 1))
        never = count == 0
        mean = np.where(never, mean[~never].mean() if not never.all() else 0.0, mean)
        deviation = np.where(never, deviation[~never].mean() if not never.all() else 1.0, deviation)
        found[modality.name] = (torch.as_tensor(mean), torch.as_tensor(deviation))
    return found


def observed_values_per_row(dataset: Dataset) -> float:
    """Mean number of observed numbers per row, over all modalities and steps. A category counts as one."""
    total = 0
    for modality in dataset.modalities:
        mask = dataset.present[modality.name]
        total += int(np.count_nonzero(mask)) * (1 if mask.ndim > 1 else math.prod(modality.shape))
    return total / dataset.rows


def has_element_masks(dataset: Dataset) -> bool:
    """Whether a modality has a mask per element."""
    return any(dataset.present[modality.name].ndim > 1 for modality in dataset.modalities)


def splits_of(dataset: Dataset) -> NDArray[np.uint8]:
    """The split of every row, an index of SPLITS: (N,). All rows of a dataset without splits are for training."""
    return np.full(dataset.rows, SPLITS.index("training"), np.uint8) if dataset.splits is None else dataset.splits


def present_values(dataset: Dataset, name: str, rows: Rows) -> Iterator[Chunk]:
    """The present values of a modality in these rows, chunk after chunk."""
    positions = rows if dataset.offsets is None else _steps_of(dataset.offsets, rows)
    size = _chunk_size(dataset.values[name].shape[1:])
    for start in range(0, len(positions), size):
        chunk = positions[start : start + size]
        mask = dataset.present[name][chunk]
        observed = _any_element(mask)
        elements = mask[observed] if mask.ndim > 1 else None
        yield Chunk(dataset.values[name][chunk[observed]].astype(np.float64), elements)


def chunks(dataset: Dataset, name: str) -> Iterator[tuple[int, Array, NDArray[np.bool_]]]:
    """All values of a modality, chunk after chunk: the first position, values (n, *shape), and their mask.

    The mask is that of `Dataset.present`: (n,) or (n, *shape) bool.
    """
    values, present = dataset.values[name], dataset.present[name]
    size = _chunk_size(values.shape[1:])
    for start in range(0, len(values), size):
        yield start, values[start : start + size], present[start : start + size]


def rows_with_all(dataset: Dataset, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a row has every one of these modalities, a sequence at some step: (N,)."""
    found: NDArray[np.bool_] = np.logical_and.reduce([_of_rows(dataset, _observed(dataset, name)) for name in names])
    return found


def rows_with_any(dataset: Dataset, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a row has at least one of these modalities, a sequence at some step: (N,)."""
    return _of_rows(dataset, np.logical_or.reduce([_observed(dataset, name) for name in names]))


def _observed(dataset: Dataset, name: str) -> NDArray[np.bool_]:
    """Whether a modality is present, in whole or in part: (N,) or (S,)."""
    return _any_element(dataset.present[name])


def _any_element(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) or (n, *shape) -> (n,)."""
    found: NDArray[np.bool_] = mask if mask.ndim == 1 else np.asarray(mask.reshape(len(mask), -1).any(axis=1))
    return found


def _of_rows(dataset: Dataset, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the mask is true at any step of a row: (N,) or (S,) -> (N,)."""
    if dataset.offsets is None:
        return mask
    before = np.concatenate([[0], np.cumsum(mask)])
    found: NDArray[np.bool_] = np.diff(before[dataset.offsets]) > 0
    return found


def _transformed(dataset: Dataset, likelihood: Likelihood, name: str, rows: Rows) -> Iterator[Chunk]:
    """The present values as the likelihood transforms them before it standardises."""
    for values, elements in present_values(dataset, name, rows):
        yield Chunk(likelihood.transformed(torch.from_numpy(values)).numpy(), elements)


def _steps_of(offsets: NDArray[np.int64], rows: Rows) -> Rows:
    """The positions of all steps of these sequences, one sequence after the other."""
    lengths = offsets[rows + 1] - offsets[rows]
    first = np.cumsum(lengths) - lengths
    return np.repeat(offsets[rows] - first, lengths) + np.arange(lengths.sum())


def _chunk_size(shape: tuple[int, ...]) -> int:
    """The number of samples or steps of this shape that are read at once."""
    return max(1, CHUNK_NUMBERS // math.prod(shape))
