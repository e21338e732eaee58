"""Evaluation of a trained model on held-out rows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from models.architectures import Model
from models.config.conditional import MIN_CODES
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.evaluation import draws, warnings
from models.training.evaluation.baseline import baselines
from models.training.evaluation.bounds import PARTICLES, bounds
from models.training.evaluation.gaps import gaps
from models.training.evaluation.latent import latent_features
from models.training.evaluation.matrix import DRAWS, matrix
from models.training.evaluation.rows import held_out, sample

MAX_ROWS = 2000
MAX_BOUND_ROWS = 500
MAX_DRAW_ROWS = 500
MAX_GAP_ROWS = 500


@torch.no_grad()
def evaluate(
    model: Model,
    dataset: Dataset,
    train_rows: Rows,
    validation_rows: Rows,
    seed: int = 0,
    metrics: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Errors of every target given every observed subset, bounds, latent features, and warnings in words, as JSON.

    Evaluates on the dataset's test rows, else on the validation rows, else on training rows; `rows` in the result names
    the split. metrics: of the epoch whose weights the model has, to detect overfitting. The model stays on its device.
    """
    model = model.eval()
    dataset = data.select(dataset, model.config)
    split, rows = held_out(dataset, train_rows, validation_rows)
    rows = sample(model, dataset, rows, MAX_ROWS, DRAWS, seed)
    constants = baselines(dataset, model, train_rows)
    entries = matrix(model, dataset, rows, train_rows, constants, seed)
    if model.conditional is not None:
        of_draws = draws.scores(model, dataset, sample(model, dataset, rows, MAX_DRAW_ROWS, MIN_CODES, seed), seed)
        for entry in entries:
            entry["draws"] = of_draws.get((tuple(entry["observed"]), entry["target"]))
    in_gaps = gaps(model, dataset, sample(model, dataset, rows, MAX_GAP_ROWS, DRAWS, seed), constants, seed)
    features, shares = latent_features(model, dataset, rows)
    return {
        "rows": {"split": split, "count": len(rows)},
        "matrix": entries,
        "gaps": in_gaps,
        **bounds(model, dataset, sample(model, dataset, rows, MAX_BOUND_ROWS, PARTICLES, seed), seed),
        "latent": features,
        "active_units": sum(feature["active"] for feature in features),
        "expert_shares": shares,
        "warnings": [
            *warnings.of_latent(features, shares),
            *warnings.of_rows(entries, split, len(rows)),
            *warnings.of_baselines(entries, in_gaps),
            *warnings.of_draws(entries),
            *warnings.of_metrics(metrics, data.observed_values_per_row(dataset)),
        ],
    }
