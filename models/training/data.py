"""From a stored dataset to batches, and what the training has to know of it beforehand."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig
from models.config.held_out import part
from models.config.training import misfits
from models.likelihoods import Likelihood
from models.training.dataset import SPLITS, Dataset

Rows = NDArray[np.int64]
# Numbers read at once where all of a dataset is read: it may be larger than memory.
CHUNK_ELEMENTS = 2**22


class UnusableData(ValueError):
    """A dataset that a model of this configuration cannot be trained on; the message lists every fault."""


def check(dataset: Dataset, config: MMVAEConfig | MMVRNNConfig, training: TrainingConfig) -> None:
    """Raise UnusableData with everything that keeps this dataset from being trained on."""
    if dataset.kind != config.kind:
        raise UnusableData(
            f"the dataset is {dataset.kind}, expected {config.kind} for architecture {config.architecture}"
        )
    found = {modality.name: (modality.shape, modality.categories) for modality in dataset.modalities}
    faults = [
        f"training.{'.'.join(map(str, place))}: {detail}" for place, detail in misfits(training, config, dataset.rows)
    ]
    known = []
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
        else:
            known.append(modality.name)
            if not dataset.present[modality.name].any():
                faults.append(f"modality {modality.name!r} is absent from every row, expected it in some")
            elif fault := _stranger(dataset, modality):
                faults.append(fault)
    if dataset.offsets is not None and len(empty := np.flatnonzero(np.diff(dataset.offsets) < 1)):
        faults.append(f"{len(empty)} sequences have no time steps, expected at least one; the first is row {empty[0]}")
    if (splits_of(dataset) != SPLITS.index("training")).all():
        faults.append("no row of the dataset is for training, expected some")
    if known and dataset.offsets is None and len(empty := np.flatnonzero(~_rows_with_something(dataset, known))):
        faults.append(
            f"{len(empty)} rows have none of the modalities {', '.join(known)}, expected at least one in each; "
            f"the first is row {empty[0]}"
        )
    if faults:
        raise UnusableData("; ".join(faults))


def select(dataset: Dataset, config: MMVAEConfig | MMVRNNConfig) -> Dataset:
    """The dataset with only the modalities that the config models; nothing is read."""
    wanted = {modality.name for modality in config.modalities}
    modalities = tuple(modality for modality in dataset.modalities if modality.name in wanted)
    return replace(dataset, modalities=modalities)


def batch_of(dataset: Dataset, rows: Rows) -> Batch:
    """The rows as a batch; sequences are padded to the longest of them. Only these rows are read."""
    if dataset.offsets is None:
        places, valid, lengths = rows, None, None
    else:
        starts = dataset.offsets[rows]
        lengths = dataset.offsets[rows + 1] - starts
        steps = np.arange(lengths.max())
        valid = steps < lengths[:, None]  # (B, T)
        # Padding reads step 0 of the dataset and is overwritten below.
        places = np.where(valid, starts[:, None] + steps, 0)
    values, present = {}, {}
    for modality in dataset.modalities:
        value = dataset.values[modality.name][places]
        mask = dataset.present[modality.name][places]
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

        def as_seen(value: NDArray[np.float64], likelihood: Likelihood = likelihood) -> NDArray[np.float64]:
            return likelihood.transformed(torch.from_numpy(value)).numpy()

        count, total = 0, np.zeros(modality.shape)
        for value in present_values(dataset, modality.name, rows):
            count += len(value)
            total += as_seen(value).sum(axis=0)
        mean = total / max(count, 1)
        squares = np.zeros(modality.shape)
        for value in present_values(dataset, modality.name, rows):
            squares += np.square(as_seen(value) - mean).sum(axis=0)
        deviation = np.sqrt(squares / count) if count else np.ones(modality.shape)
        found[modality.name] = (torch.as_tensor(mean), torch.as_tensor(deviation))
    return found


def observed_values_per_row(dataset: Dataset) -> float:
    """Mean number of scalars that a row really has, over all modalities and steps; a category counts as one."""
    total = sum(
        int(np.prod(modality.shape)) * int(np.count_nonzero(dataset.present[modality.name]))
        for modality in dataset.modalities
    )
    return total / dataset.rows


def split(
    dataset: Dataset, training: TrainingConfig, seed: int, held_out_before: int | None = None
) -> tuple[Rows, Rows]:
    """The rows to train on and the rows held out to validate.

    Held out are the rows that the config names, else those that the dataset calls so, else a random fraction of the
    rest, which leaves at least one row of every modality to train on. Rows that the dataset keeps for tests are in
    neither. held_out_before: how many rows such a fraction held out when the training began.
    """
    usable = np.flatnonzero(splits_of(dataset) != SPLITS.index("test"))
    if training.validation_rows is not None:
        held_out = np.unique(np.asarray(training.validation_rows, dtype=np.int64))
        return np.setdiff1d(usable, held_out), held_out
    held_out = np.flatnonzero(splits_of(dataset) == SPLITS.index("validation"))
    if len(held_out):
        return np.setdiff1d(usable, held_out), held_out if training.holds_out else held_out[:0]
    shuffled = usable[np.random.default_rng(seed).permutation(len(usable))]
    # of each modality the last row that has it: a modality in no training row is not learned
    lasts = [places[-1] for places in map(np.flatnonzero, _having(dataset, shuffled)) if len(places)]
    kept = np.unique(np.array(lasts, np.int64))
    shuffled = np.concatenate([np.delete(shuffled, kept), shuffled[kept]])
    count = part(training.validation_fraction, len(usable)) if held_out_before is None else held_out_before
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def check_training(dataset: Dataset, train_rows: Rows) -> None:
    """Raise UnusableData where a modality is in none of the rows to train on: it could not be learned."""
    if not len(train_rows):
        raise UnusableData("no row is for training: all are held out or for tests, expected some; hold out fewer")
    names = [modality.name for modality in dataset.modalities]
    faults = [
        f"modality {name!r} is absent from all {len(train_rows)} rows for training, and only held-out rows have it, "
        "expected it in at least one; change the dataset's splits or validation_rows, or leave the modality out"
        for name, has in zip(names, _having(dataset, train_rows), strict=True)
        if not has.any()
    ]
    if faults:
        raise UnusableData("; ".join(faults))


def splits_of(dataset: Dataset) -> NDArray[np.uint8]:
    """The split of every row, an index of SPLITS; without any all rows are for training: (N,)."""
    return np.zeros(dataset.rows, np.uint8) if dataset.splits is None else dataset.splits


def _stranger(dataset: Dataset, modality: ModalityConfig) -> str | None:
    """The first value that the modality's likelihood gives no density to, in words."""
    if modality.support.is_everything:
        return None
    chunk = _chunk(modality.shape)
    for start in range(0, len(dataset.values[modality.name]), chunk):
        value = dataset.values[modality.name][start : start + chunk]
        with np.errstate(invalid="ignore"):  # of infinite numbers, which are outside
            wrong = ~modality.support.contains(value)
        present = dataset.present[modality.name][start : start + chunk]
        wrong = wrong.reshape(len(wrong), -1) & present[:, None]
        if wrong.any():
            place, element = np.argwhere(wrong)[0]
            came = value.reshape(len(value), -1)[place, element]
            where = _place(dataset, start + int(place))
            what = f"modality {modality.name!r} is {modality.likelihood} and has {came} at {where}"
            return f"{what}, expected {modality.support}"
    return None


def _place(dataset: Dataset, position: int) -> str:
    if dataset.offsets is None:
        return f"row {position}"
    row = int(np.searchsorted(dataset.offsets, position, side="right")) - 1
    return f"row {row}, step {position - int(dataset.offsets[row])}"


def present_values(dataset: Dataset, name: str, rows: Rows) -> Iterator[NDArray[np.float64]]:
    """The present values of a modality in these rows, chunk after chunk: (n, *shape)."""
    places = rows if dataset.offsets is None else _steps_of(dataset.offsets, rows)
    size = _chunk(dataset.values[name].shape[1:])
    for start in range(0, len(places), size):
        chunk = places[start : start + size]
        chunk = chunk[dataset.present[name][chunk]]
        yield dataset.values[name][chunk].astype(np.float64)


def _chunk(shape: tuple[int, ...]) -> int:
    """How many samples or steps of this shape are read at once."""
    return max(1, CHUNK_ELEMENTS // math.prod(shape))


def _steps_of(offsets: NDArray[np.int64], rows: Rows) -> Rows:
    """The packed positions of all steps of these sequences, one after the other."""
    lengths = offsets[rows + 1] - offsets[rows]
    first = np.cumsum(lengths) - lengths
    return np.repeat(offsets[rows] - first, lengths) + np.arange(lengths.sum())


def rows_with_all(dataset: Dataset, names: list[str]) -> NDArray[np.bool_]:
    """Which rows have every one of these modalities, sequences at some step: (N,)."""
    found: NDArray[np.bool_] = np.logical_and.reduce([_of_rows(dataset, dataset.present[name]) for name in names])
    return found


def _having(dataset: Dataset, rows: Rows) -> Iterator[NDArray[np.bool_]]:
    """Of every modality, in the dataset's order, which of these rows have it."""
    for modality in dataset.modalities:
        yield rows_with_all(dataset, [modality.name])[rows]


def _rows_with_something(dataset: Dataset, names: list[str]) -> NDArray[np.bool_]:
    return _of_rows(dataset, np.logical_or.reduce([dataset.present[name] for name in names]))


def _of_rows(dataset: Dataset, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether it is so anywhere in each row: (N,) or (S,) -> (N,)."""
    if dataset.offsets is None:
        return mask
    before = np.concatenate([[0], np.cumsum(mask)])
    found: NDArray[np.bool_] = np.diff(before[dataset.offsets]) > 0
    return found
