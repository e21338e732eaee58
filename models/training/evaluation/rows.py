"""The rows of an evaluation, and their batches."""

import math
from collections.abc import Iterator

import numpy as np

from models.architectures import Model
from models.batch import Batch
from models.training import data
from models.training.data import Rows
from models.training.dataset import SPLITS, Dataset

# Numbers in one layer, over all rows and draws. Fewer rows are read if each has many numbers, so that an evaluation
# takes seconds. More rows would change the third digit of the figures.
MIN_ROWS = 50
MAX_NUMBERS = 2**27
# Numbers of one layer in one batch: samples, or steps, times draws times features.
MAX_NUMBERS_AT_ONCE = 2**23
MIN_WIDTH = 128


def held_out(dataset: Dataset, train_rows: Rows, validation_rows: Rows) -> tuple[str, Rows]:
    """The first split that has rows, of test, validation and training: its name and its rows."""
    test_rows = np.flatnonzero(data.splits_of(dataset) == SPLITS.index("test"))
    splits = {"test": test_rows, "validation": validation_rows, "training": train_rows}
    return next((name, rows) for name, rows in splits.items() if len(rows))


def sample(model: Model, dataset: Dataset, rows: Rows, max_rows: int, draws: int, seed: int) -> Rows:
    """Up to `max_rows` of the rows, fewer where `draws` draws of a row have many numbers."""
    max_rows = min(max_rows, max(MIN_ROWS, MAX_NUMBERS // (draws * numbers_per_row(model, dataset))))
    if len(rows) <= max_rows:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, max_rows, replace=False))


def batches(model: Model, dataset: Dataset, rows: Rows, draws: int) -> Iterator[tuple[Batch, Rows]]:
    """The rows in batches of which `draws` copies fit into memory, on the model's device."""
    device = next(model.parameters()).device
    size = max(1, MAX_NUMBERS_AT_ONCE // (draws * numbers_per_row(model, dataset)))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        yield data.batch_of(dataset, chunk).to(device), chunk


def numbers_per_row(model: Model, dataset: Dataset) -> int:
    """Numbers in one layer for the longest row."""
    longest = 1 if dataset.offsets is None else int(np.diff(dataset.offsets).max())
    width = sum(math.prod(model.likelihood(name).parameter_shape) for name in model.index)
    return longest * max(MIN_WIDTH, width)
