"""Validation: the training objective on held-out rows."""

import torch

from models.architectures import Model
from models.config import TrainingConfig
from models.ops.philox import Draws
from models.training import objective
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.metrics import Totals
from models.training.prefetch import Prefetched, read
from models.training.step import compute


@torch.no_grad()
def validate(
    model: Model, dataset: Dataset, rows: Rows, training: TrainingConfig, beta: float, seed: int, group: Group
) -> dict[str, float]:
    """Means over the rows in nats, by name with the prefix validation_ (`models.training.events.Epoch`).

    Masks and noise depend on the seed and the row alone: between epochs only the weights differ.
    """
    model.eval()
    device = next(model.parameters()).device
    totals = Totals()
    profile = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(rows), training.batch_size):
        chunk = rows[start : start + training.batch_size]
        share = group.share(chunk)
        if not len(share):
            totals.rows += len(chunk)
            continue
        targets = read(dataset, share, model, device)
        found = compute(model, Prefetched(share, len(chunk), targets), training, beta, device, (seed, 0), group)
        totals.add(found, len(chunk))
        inputs = objective.hidden(targets, training, lambda stream: Draws(seed, 0, stream, model.backend), share)
        profile += objective.negative_profile(model, inputs, targets).double().sum()
    return totals.means(group, "validation_", profile=profile)
