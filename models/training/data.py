"""What training reads of a dataset: batches, statistics, and which rows have which modalities."""

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
from models.likelihoods import Likelihood
from models.training.dataset import SPLITS, Array, Dataset

Rows = NDArray[np.int64]
# Where a whole dataset is read, so many numbers at once: the dataset may be larger than memory.
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
        # Padding reads step 0 of the dataset and is overwritten below.
        positions = np.where(valid, starts[:, None] + steps, 0)
    values, present = {}, {}
    for modality in dataset.modalities:
        value = dataset.values[modality.name][positions]
        mask = dataset.present[modality.name][positions]
        if valid is not None:
            value[~valid] = 0
            mask &= valid
        dtype = np.float32 if modality.categories is None else np.int64
        values[modality.name] = torch.from_numpy(value.astype(dtype, copy=False))
        present[modality.name] = torch.from_numpy(mask)
    return Batch(values, present, None if lengths is None else torch.from_numpy(lengths))


def statistics(dataset: Dataset, model: Model, rows: Rows) -> dict[str, tuple[Tensor, Tensor]]:
    """Elementwise mean and standard deviation of the present values, for each likelihood that standardises them.

    Of `Likelihood.transformed`, such as log(1 + x) for counts. Two passes in float64 over chunks: the square of a large
    mean never cancels. (0, 1) for a modality that is never present.
    """
    found = {}
    for modality in model.modalities:
        likelihood = model.likelihood(modality.name)
        if not likelihood.needs_statistics:
            continue
        count, total = 0, np.zeros(modality.shape)
        for value in _transformed(dataset, likelihood, modality.name, rows):
            count += len(value)
            total += value.sum(axis=0)
        mean = total / max(count, 1)
        squares = np.zeros(modality.shape)
        for value in _transformed(dataset, likelihood, modality.name, rows):
            squares += np.square(value - mean).sum(axis=0)
        deviation = np.sqrt(squares / count) if count else np.ones(modality.shape)
        found[modality.name] = (torch.as_tensor(mean), torch.as_tensor(deviation))
    return found


def observed_values_per_row(dataset: Dataset) -> float:
    """Mean number of observed scalars per row, over all modalities and steps. A category counts as one."""
    total = sum(
        int(np.prod(modality.shape)) * int(np.count_nonzero(dataset.present[modality.name]))
        for modality in dataset.modalities
    )
    return total / dataset.rows


def splits_of(dataset: Dataset) -> NDArray[np.uint8]:
    """The split of every row, an index of SPLITS: (N,). All rows of a dataset without splits are for training."""
    return np.full(dataset.rows, SPLITS.index("training"), np.uint8) if dataset.splits is None else dataset.splits


def present_values(dataset: Dataset, name: str, rows: Rows) -> Iterator[NDArray[np.float64]]:
    """The present values of a modality in these rows, chunk after chunk: (n, *shape)."""
    positions = rows if dataset.offsets is None else _steps_of(dataset.offsets, rows)
    size = _chunk_size(dataset.values[name].shape[1:])
    for start in range(0, len(positions), size):
        chunk = positions[start : start + size]
        chunk = chunk[dataset.present[name][chunk]]
        yield dataset.values[name][chunk].astype(np.float64)


def chunks(dataset: Dataset, name: str) -> Iterator[tuple[int, Array, NDArray[np.bool_]]]:
    """All values of a modality, chunk after chunk: the first position, values (n, *shape), presence (n,)."""
    values, present = dataset.values[name], dataset.present[name]
    size = _chunk_size(values.shape[1:])
    for start in range(0, len(values), size):
        yield start, values[start : start + size], present[start : start + size]


def rows_with_all(dataset: Dataset, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a row has every one of these modalities, a sequence at some step: (N,)."""
    found: NDArray[np.bool_] = np.logical_and.reduce([_of_rows(dataset, dataset.present[name]) for name in names])
    return found


def rows_with_any(dataset: Dataset, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a row has at least one of these modalities, a sequence at some step: (N,)."""
    return _of_rows(dataset, np.logical_or.reduce([dataset.present[name] for name in names]))


def _of_rows(dataset: Dataset, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the mask is true at any step of a row: (N,) or (S,) -> (N,)."""
    if dataset.offsets is None:
        return mask
    before = np.concatenate([[0], np.cumsum(mask)])
    found: NDArray[np.bool_] = np.diff(before[dataset.offsets]) > 0
    return found


def _transformed(dataset: Dataset, likelihood: Likelihood, name: str, rows: Rows) -> Iterator[NDArray[np.float64]]:
    """The present values as the likelihood transforms them before it standardises."""
    for value in present_values(dataset, name, rows):
        yield likelihood.transformed(torch.from_numpy(value)).numpy()


def _steps_of(offsets: NDArray[np.int64], rows: Rows) -> Rows:
    """The positions of all steps of these sequences, one sequence after the other."""
    lengths = offsets[rows + 1] - offsets[rows]
    first = np.cumsum(lengths) - lengths
    return np.repeat(offsets[rows] - first, lengths) + np.arange(lengths.sum())


def _chunk_size(shape: tuple[int, ...]) -> int:
    """The number of samples or steps of this shape that are read at once."""
    return max(1, CHUNK_NUMBERS // math.prod(shape))
