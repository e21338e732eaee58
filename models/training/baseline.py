"""What one would predict without a model: the mean of the training rows, or the most frequent category."""

import numpy as np
import torch
from torch import Tensor

from models.config import MMVAEConfig, MMVRNNConfig
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset


def baselines(dataset: Dataset, config: MMVAEConfig | MMVRNNConfig, rows: Rows) -> dict[str, Tensor]:
    """The prediction for every modality, (*shape): the same for every row."""
    found = {}
    for modality in config.modalities:
        count, total = 0, np.zeros(modality.shape if modality.categories is None else modality.categories)
        for value in data.present_values(dataset, modality.name, rows):
            count += len(value)
            if modality.categories is None:
                total += value.sum(axis=0)
            else:
                total += np.bincount(value.astype(np.int64), minlength=modality.categories)
        best = total / max(count, 1) if modality.categories is None else total.argmax()
        found[modality.name] = torch.as_tensor(best)
    return found
