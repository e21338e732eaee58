"""A model of MultiVae for a table in groups of columns; runs in an environment of its own.

`python multivae_tables.py MODEL IN OUT`: IN has arrays `training GROUP` and `test GROUP`, standardised. OUT gets for
each group its prediction for the test rows, from all other groups.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from multivae import models  # type: ignore[import-not-found] # only in its own environment
from multivae.data.datasets.base import MultimodalBaseDataset  # type: ignore[import-not-found]
from multivae.trainers import BaseTrainer, BaseTrainerConfig  # type: ignore[import-not-found]

LATENT, BATCH, STEPS = 16, 64, 1000
LEARNING_RATE = 1e-3


def main(name: str, before: Path, after: Path) -> None:
    """Train, predict, write."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    arrays = np.load(before)
    groups = [key.partition(" ")[2] for key in arrays if key.startswith("training ")]
    training, test = (
        {group: torch.from_numpy(arrays[f"{part} {group}"].astype(np.float32)) for group in groups}
        for part in ("training", "test")
    )
    rows = len(training[groups[0]])
    config = getattr(models, f"{name}Config")(
        n_modalities=len(groups),
        latent_dim=LATENT,
        input_dims={group: tuple(values.shape[1:]) for group, values in training.items()},
        decoders_dist=dict.fromkeys(groups, "normal"),
    )
    model = getattr(models, name)(config)
    batches = -(-rows // BATCH)
    settings = BaseTrainerConfig(
        output_dir=str(after.parent / "runs"),
        num_epochs=max(1, STEPS // batches),
        per_device_train_batch_size=min(BATCH, rows),
        learning_rate=LEARNING_RATE,
        no_cuda=True,
        keep_best_on_train=False,
    )
    BaseTrainer(model, train_dataset=MultimodalBaseDataset(training), training_config=settings).train()
    model.eval()
    found = {}
    with torch.no_grad():
        for group in groups:
            others = [other for other in groups if other != group]
            predicted = model.predict(
                MultimodalBaseDataset(test), cond_mod=others, gen_mod=group, return_mean=True, ignore_incomplete=True
            )
            found[group] = predicted[group].reshape(len(test[group]), -1).numpy()
    np.savez(after, **found)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
