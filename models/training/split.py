"""Which rows of a dataset are for training, and which are held out for validation."""

import numpy as np

from models.config import TrainingConfig
from models.config.held_out import part
from models.training import data
from models.training.data import Rows
from models.training.dataset import SPLITS, Dataset


def split(
    dataset: Dataset, training: TrainingConfig, seed: int, held_out_before: int | None = None
) -> tuple[Rows, Rows]:
    """The rows to train on, and the rows to validate on; test rows are in neither.

    Held out are the rows that the config names, else the dataset's validation rows, else a random fraction. A random
    fraction leaves at least one training row of every modality. held_out_before: the size of that fraction when a
    resumed training began.
    """
    usable = np.flatnonzero(data.splits_of(dataset) != SPLITS.index("test"))
    if training.validation_rows is not None:
        held_out = np.unique(np.asarray(training.validation_rows, dtype=np.int64))
        return np.setdiff1d(usable, held_out), held_out
    held_out = np.flatnonzero(data.splits_of(dataset) == SPLITS.index("validation"))
    if len(held_out):
        return np.setdiff1d(usable, held_out), held_out if training.holds_out else held_out[:0]
    shuffled = usable[np.random.default_rng(seed).permutation(len(usable))]
    # The last row that has a modality stays for training: a model cannot learn a modality that no training row has.
    has = (data.rows_with_all(dataset, [modality.name])[shuffled] for modality in dataset.modalities)
    lasts = [positions[-1] for positions in map(np.flatnonzero, has) if len(positions)]
    kept = np.unique(np.array(lasts, np.int64))
    shuffled = np.concatenate([np.delete(shuffled, kept), shuffled[kept]])
    count = part(training.validation_fraction, len(usable)) if held_out_before is None else held_out_before
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])
