"""Whether a model can be trained on a dataset, before anything is built."""

from collections.abc import Sequence

import numpy as np

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig
from models.config.training import misfits
from models.training import data
from models.training.data import Rows
from models.training.dataset import SPLITS, Dataset


class UnusableData(ValueError):
    """A dataset that a model of this configuration cannot be trained on. The message lists every fault."""


def check(dataset: Dataset, config: MMVAEConfig | MMVRNNConfig, training: TrainingConfig) -> None:
    """Raise UnusableData with all faults of the dataset for this model and training."""
    if dataset.kind != config.kind:
        raise UnusableData(
            f"the dataset is {dataset.kind}, expected {config.kind} for architecture {config.architecture}"
        )
    faults = [
        f"training.{'.'.join(map(str, place))}: {detail}" for place, detail in misfits(training, config, dataset.rows)
    ]
    known, of_modalities = _check_modalities(dataset, config.modalities)
    faults += of_modalities
    if dataset.offsets is not None and len(empty := np.flatnonzero(np.diff(dataset.offsets) < 1)):
        faults.append(f"{len(empty)} sequences have no time steps, expected at least one; the first is row {empty[0]}")
    if (data.splits_of(dataset) != SPLITS.index("training")).all():
        faults.append("no row of the dataset is for training, expected some")
    if known and dataset.offsets is None and len(empty := np.flatnonzero(~data.rows_with_any(dataset, known))):
        faults.append(
            f"{len(empty)} rows have none of the modalities {', '.join(known)}, expected at least one in each; "
            f"the first is row {empty[0]}"
        )
    if faults:
        raise UnusableData("; ".join(faults))


def check_train_rows(dataset: Dataset, train_rows: Rows) -> None:
    """Raise UnusableData if no training row has some modality: the model could not learn it."""
    if not len(train_rows):
        raise UnusableData("no row is for training: all are held out or for tests, expected some; hold out fewer")
    faults = [
        f"modality {modality.name!r} is absent from all {len(train_rows)} rows for training, and only held-out rows "
        "have it, expected it in at least one; change the dataset's splits or validation_rows, or leave the modality "
        "out"
        for modality in dataset.modalities
        if not data.rows_with_all(dataset, [modality.name])[train_rows].any()
    ]
    if faults:
        raise UnusableData("; ".join(faults))


def _check_modalities(dataset: Dataset, modalities: Sequence[ModalityConfig]) -> tuple[list[str], list[str]]:
    """The names of the modalities that the dataset has, and the faults."""
    found = {modality.name: (modality.shape, modality.categories) for modality in dataset.modalities}
    known, faults = [], []
    for modality in modalities:
        if modality.name not in found:
            faults.append(f"modality {modality.name!r} is missing, the dataset has {', '.join(sorted(found))}")
            continue
        shape, categories = found[modality.name]
        if (shape, categories) != (modality.shape, modality.categories):
            faults.append(
                f"modality {modality.name!r} has shape {shape} and categories {categories}, "
                f"expected {modality.shape} and {modality.categories}"
            )
            continue
        known.append(modality.name)
        if not dataset.present[modality.name].any():
            faults.append(f"modality {modality.name!r} is absent from every row, expected it in some")
        elif fault := _outside_support(dataset, modality):
            faults.append(fault)
    return known, faults


def _outside_support(dataset: Dataset, modality: ModalityConfig) -> str | None:
    """The first value outside the support of the modality's likelihood, in words."""
    if modality.support.is_everything:
        return None
    for start, value, mask in data.chunks(dataset, modality.name):
        with np.errstate(invalid="ignore"):  # infinite numbers are outside
            wrong = ~modality.support.contains(value)
        wrong = wrong.reshape(len(wrong), -1) & mask.reshape(len(mask), -1)
        if wrong.any():
            position, element = np.argwhere(wrong)[0]
            came = value.reshape(len(value), -1)[position, element]
            where = _place(dataset, start + int(position))
            what = f"modality {modality.name!r} is {modality.likelihood} and has {came} at {where}"
            return f"{what}, expected {modality.support}"
    return None


def _place(dataset: Dataset, position: int) -> str:
    if dataset.offsets is None:
        return f"row {position}"
    row = int(np.searchsorted(dataset.offsets, position, side="right")) - 1
    return f"row {row}, step {position - int(dataset.offsets[row])}"
