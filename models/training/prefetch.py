"""Prefetch: values, masks and noise of several small batches are read and drawn together."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from models import batch
from models.architectures import Model
from models.batch import Batch
from models.config import ELBO, TrainingConfig
from models.ops.philox import Draws
from models.training import data, objective
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.objective import Drawn

# Numbers that are read and drawn together: for few numbers, the calls take more time than the work.
MAX_NUMBERS = 2**17


class Prefetched(NamedTuple):
    """A batch of one step.

    rows: the rows of this process. batch_rows: the number of rows in all processes. drawn: masked inputs and noise;
    None for objectives that draw them themselves.
    """

    rows: Rows
    batch_rows: int
    targets: Batch
    drawn: Drawn | None = None


class Prefetch:
    """Reads the batches of an epoch, several together if they are small."""

    def __init__(
        self, dataset: Dataset, model: Model, training: TrainingConfig, group: Group, device: torch.device, seed: int
    ) -> None:
        self._dataset, self._model, self._training = dataset, model, training
        self._group, self._device, self._seed = group, device, seed
        numbers = model.latent_features + sum(math.prod(one.shape) for one in dataset.modalities)
        # Sequences are padded to the longest of their own batch, so that each batch is read alone.
        self._batches = max(1, MAX_NUMBERS // (training.batch_size * numbers)) if dataset.offsets is None else 1

    def __call__(self, batches: Sequence[Rows], first_step: int) -> Iterator[Prefetched]:
        """The batches of steps `first_step` and following, each given by its rows in all processes."""
        for start in range(0, len(batches), self._batches):
            yield from self._read(batches[start : start + self._batches], first_step + start)

    def _read(self, batches: Sequence[Rows], first_step: int) -> list[Prefetched]:
        shares = [self._group.share(rows) for rows in batches]
        sizes, counts = [len(rows) for rows in shares], [len(rows) for rows in batches]
        rows = np.concatenate(shares)
        targets = read(self._dataset, rows, self._model, self._device)
        of_each = targets.split(sizes) if len(batches) > 1 else [targets]
        if not isinstance(self._training.objective, ELBO):
            return [Prefetched(*parts) for parts in zip(shares, counts, of_each, strict=True)]
        steps = np.repeat(np.arange(first_step, first_step + len(batches)), sizes)
        drawn = objective.draw(
            self._model,
            targets,
            self._training,
            lambda stream: Draws(self._seed, steps, stream, self._model.backend),
            rows,
        )
        inputs = drawn.inputs.split(sizes) if len(batches) > 1 else [drawn.inputs]
        draws = map(Drawn, inputs, drawn.noise.split(sizes))
        return [Prefetched(*parts) for parts in zip(shares, counts, of_each, draws, strict=True)]


def read(dataset: Dataset, rows: Rows, model: Model, device: torch.device) -> Batch:
    """These rows on the device. Raises models.batch.BatchError if they do not fit the model."""
    targets = data.batch_of(dataset, rows)
    batch.check(targets, model.modalities, model.config.kind)
    return targets.to(device)
