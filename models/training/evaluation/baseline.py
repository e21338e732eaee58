"""Predictions without a model: for each modality the best constant of the training rows."""

import torch
from torch import Tensor

from models.architectures import Model
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset


def baselines(dataset: Dataset, model: Model, rows: Rows) -> dict[str, Tensor]:
    """The constant with the lowest error by each likelihood's metric: name -> (*shape), the same for every row."""
    device = next(model.parameters()).device
    return {
        modality.name: torch.as_tensor(
            model.likelihood(modality.name).metric.best_constant(
                data.present_values(dataset, modality.name, rows), modality
            ),
            device=device,
        )
        for modality in model.modalities
    }
