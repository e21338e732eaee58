"""All rows for what has a closed form, after an evaluation that needed some of them held out."""

import numpy as np

from models.architectures import Model
from models.config import TrainingConfig
from models.mmvae import MMVAE
from models.training import data, stack
from models.training.conditional_losses import restart
from models.training.dataset import SPLITS, Dataset
from models.training.events import Finished


def refit(finished: Finished, dataset: Dataset, training: TrainingConfig) -> None:
    """Fit the regressions of the model's conditional part to training rows and held-out rows together.

    Rows that were held out by name, or by the dataset, stay out. Networks, weights and widths stay as they are.
    """
    model: Model = finished.model
    named = training.validation_rows is not None or (data.splits_of(dataset) == SPLITS.index("validation")).any()
    if named or not len(finished.validation_rows) or not isinstance(model, MMVAE) or model.conditional is None:
        return
    dataset = data.select(dataset, model.config)
    rows = np.sort(np.concatenate([finished.train_rows, finished.validation_rows]))
    if model.conditional.is_regression:
        restart(model, dataset, rows)
    stack.refit(model, dataset, rows)
