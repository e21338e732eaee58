"""The losses of the conditional part: of the flow, and of its decoders."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.architectures import Model
from models.batch import Batch
from models.conditional import ConditionalFlow
from models.conditional_sequences import SequenceFlow
from models.config import DeletionMix
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.ops.philox import Draws
from models.training import data
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.deletion_mix import deletion_mix
from models.training.objective import MIX

BATCH_ROWS = 256
# Time steps of a batch of sequences, over all its sequences.
BATCH_STEPS = 2048
MIN_SEQUENCES = 8
# Complete rows are enough if there are so many, and if they are this part of the rows.
MIN_COMPLETE = 100
COMPLETE_PART = 0.25
# Rows on which the flow is compared between steps, at least, and pairs of noise and time for all of them.
MIN_HELD_OUT = 20
HELD_OUT_DRAWS = 1024
# Fewer complete rows are too few for a regression, and more than the most add nothing to it.
MIN_REGRESSED = 5
MAX_REGRESSED = 2**15
# Noise of the codes of steps, in deviations of the codes: drawn codes are not exact either.
STEP_NOISE = 0.05
# The decoders, copies of the model's, learn in every second step of samples.
DECODER_WEIGHT = 0.05
DECODER_STEPS = 2
# Rows, or time steps, that are encoded together, and likelihood parameters whose principal components become the codes.
ENCODED_ROWS = 1024
ENCODED_STEPS = 2**15
COMPONENT_NUMBERS = 2**24
# Probability that a modality of a sample is given.
KEPT = 0.5
# The gaps in sequences: more of them than in a training by default are whole modalities.
GAPS = DeletionMix(nothing=0.04, modalities=0.25)


class LossesOfSamples:
    """The code of a row is the mean of q(z | all that it has). A step hides each modality with probability 1/2.

    The code of an incomplete row is that of an average row, and draws that learn it are too sure. So only complete rows
    count where they are enough.

    learns: whether the flow is to learn anything. With a regression to start from and too few held-out rows to see
    whether steps make it better, it stays there.
    """

    learning_rate = 4e-3

    def __init__(self, model: MMVAE, dataset: Dataset, rows: Rows, held_out: Rows, steps: int, seed: int) -> None:
        assert model.conditional is not None  # noqa: S101 the caller has added it
        self._model, self._flow, self._dataset = model, model.conditional, dataset
        self._seed, self._generator = seed, np.random.default_rng(seed)
        has_all = data.rows_with_all(dataset, list(model.index))
        if has_enough_complete(rows, has_all):
            rows, held_out = rows[has_all[rows]], held_out[has_all[held_out]]
        if len(rows) > steps * BATCH_ROWS:
            rows = self._generator.choice(rows, steps * BATCH_ROWS, replace=False)
        self._rows = rows
        self._codes = codes_of(model, dataset, rows)
        self._held_out: tuple[Rows, Tensor] | None = None
        if len(held_out) >= MIN_HELD_OUT:
            some = _evenly(held_out, HELD_OUT_DRAWS)
            self._held_out = some, codes_of(model, dataset, some)
        is_regressed = start_at_regression(model, dataset, rows, self._codes)
        self.learns = self._held_out is not None or not is_regressed

    def of_step(self, step: int) -> Tensor:
        """The errors of flow and decoders on a batch."""
        chosen = self._generator.integers(len(self._rows), size=min(BATCH_ROWS, len(self._rows)))
        codes = self._codes[torch.from_numpy(chosen)]
        targets, codes, errors = self._flow_errors(self._rows[chosen], codes, self._generator)
        if step % DECODER_STEPS:
            return errors.mean()
        return errors.mean() + DECODER_STEPS * DECODER_WEIGHT * _decoding(self._model, self._flow, targets, codes)

    @torch.no_grad()
    def of_held_out(self) -> Tensor | None:
        """The flow's error on each row that no step has, always with the same noise; None: they are too few."""
        if self._held_out is None:
            return None
        rows, codes = self._held_out
        times = -(-HELD_OUT_DRAWS // len(rows))
        rows, codes = np.tile(rows, times), codes.repeat(times, 1)
        errors: Tensor = self._flow_errors(rows, codes, np.random.default_rng(self._seed))[2].unflatten(0, (times, -1))
        return errors.mean(dim=0)

    def _flow_errors(self, rows: Rows, codes: Tensor, generator: np.random.Generator) -> tuple[Batch, Tensor, Tensor]:
        """The rows, their codes with noise, and the flow's error of each row where parts of the rows are hidden."""
        device = self._codes.device
        targets = data.batch_of(self._dataset, rows).to(device)
        # times near the middle, where the velocity is hardest to tell, come more often (arXiv:2403.03206, eq. 19)
        time = _normal(generator, codes.new_empty(len(codes), 1)).sigmoid()
        kept = {name: torch.from_numpy(generator.random(targets.rows) < KEPT).to(device) for name in targets.present}
        context = self._model.condition(targets.kept(kept))
        codes = codes + self._flow.noise * self._flow.deviation * _normal(generator, codes)
        return targets, codes, self._flow.loss(codes, _normal(generator, codes), time, context)


class LossesOfSequences:
    """The codes of a sequence are those of what the model decodes for its steps, given all that it has."""

    learning_rate = 2e-3
    learns = True

    def __init__(self, model: MMVRNN, dataset: Dataset, rows: Rows, seed: int) -> None:
        assert model.conditional is not None  # noqa: S101 the caller has added it
        assert dataset.offsets is not None  # noqa: S101 sequences have them
        self._model, self._flow, self._dataset, self._rows = model, model.conditional, dataset, rows
        self._generator, self._seed = np.random.default_rng(seed), seed
        self._device = next(model.parameters()).device
        lengths = np.diff(dataset.offsets)[rows]
        self._batch_rows = min(len(rows), max(MIN_SEQUENCES, round(BATCH_STEPS / lengths.mean())))
        # the components need the moments of some steps only
        numbers = int(lengths.sum()) * len(self._flow.decoded_mean)
        some = rows[:: -(-numbers // COMPONENT_NUMBERS)]
        decoded = []
        for targets in _batches(dataset, some, max(1, ENCODED_STEPS // int(lengths.max())), self._device):
            with torch.no_grad():
                decoded.append(model.features_of_steps(targets).decoded[targets.valid])
        self._flow.find_codes(torch.cat(decoded))

    def of_step(self, step: int) -> Tensor:
        """The errors of flow and decoders on a batch."""
        generator, flow = self._generator, self._flow
        rows = self._rows[generator.integers(len(self._rows), size=self._batch_rows)]
        targets = data.batch_of(self._dataset, rows).to(self._device)
        with torch.no_grad():
            given = deletion_mix(targets, GAPS, Draws(self._seed, step, MIX, self._model.backend), rows)
            steps, codes = self._model.features_of_steps(given), self._model.full_codes(targets)
        time = _normal(generator, codes.new_empty(len(codes), 1)).sigmoid()
        codes = codes + STEP_NOISE * flow.deviation * _normal(generator, codes)
        error = flow.loss(codes, _normal(generator, codes), time, flow.given(steps))
        return error + DECODER_WEIGHT * _decoding(self._model, flow, _steps(targets), codes[targets.valid])

    def of_held_out(self) -> None:
        """No sequences are held out."""


def _decoding(model: Model, flow: ConditionalFlow | SequenceFlow, targets: Batch, codes: Tensor) -> Tensor:
    """Negative log-likelihood of the values that a code was made of, in nats per code. codes: (N, Z)."""
    total = codes.new_zeros(())
    for name in targets.values:
        if isinstance(flow, ConditionalFlow) and name in flow.values:
            continue  # a part of the code
        present, elements = targets.observed(name), targets.elements(name)
        raw = flow.decoded(name, codes[present])
        mask = None if elements is None else elements[present]
        total = total - model.likelihood(name).log_prob(raw, targets.values[name][present], mask).sum()
    return total / len(codes)


def _steps(sequences: Batch) -> Batch:
    """The steps of all sequences as samples, without padding."""
    valid = sequences.valid
    return Batch(
        {name: value[valid] for name, value in sequences.values.items()},
        {name: mask[valid] for name, mask in sequences.present.items()},
    )


@torch.no_grad()
def codes_of(model: MMVAE, dataset: Dataset, rows: Rows) -> Tensor:
    """The codes of all that rows have, (N, Z)."""
    device = next(model.parameters()).device
    return torch.cat([model.full_codes(targets) for targets in _batches(dataset, rows, ENCODED_ROWS, device)])


def has_enough_complete(rows: Rows, has_all: NDArray[np.bool_]) -> bool:
    """Whether the complete rows are enough without the others. has_all: of each row of the dataset."""
    return int(has_all[rows].sum()) >= max(MIN_COMPLETE, COMPLETE_PART * len(rows))


@torch.no_grad()
def restart(model: MMVAE, dataset: Dataset, rows: Rows) -> None:
    """Start a flow that has learned nothing anew, at the regression of these rows."""
    has_all = data.rows_with_all(dataset, list(model.index))
    if has_enough_complete(rows, has_all):
        rows = rows[has_all[rows]]
    rows = _evenly(rows, MAX_REGRESSED)
    start_at_regression(model, dataset, rows, codes_of(model, dataset, rows))


@torch.no_grad()
def start_at_regression(model: MMVAE, dataset: Dataset, rows: Rows, codes: Tensor) -> bool:
    """Standardise the flow by the codes of these rows, and start it at their regression. False: it cannot be."""
    flow = model.conditional
    assert flow is not None  # noqa: S101 the caller has added it
    if not bool(codes.isfinite().all()):
        return False  # the training ends at its first step
    flow.standardise(codes)
    complete = _evenly(np.flatnonzero(data.rows_with_all(dataset, list(model.index))[rows]), MAX_REGRESSED)
    if flow.start is None or len(complete) < MIN_REGRESSED:
        return False
    found = [model.given_numbers(targets) for targets in _batches(dataset, rows[complete], ENCODED_ROWS, codes.device)]
    whole = torch.cat([each.known.all(dim=1) for each in found])
    if int(whole.sum()) < MIN_REGRESSED:
        return False
    flow.regress(codes[torch.from_numpy(complete)][whole], torch.cat([each.numbers for each in found])[whole])
    return True


def _batches(dataset: Dataset, rows: Rows, size: int, device: torch.device) -> Iterator[Batch]:
    for start in range(0, len(rows), size):
        yield data.batch_of(dataset, rows[start : start + size]).to(device)


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, from all parts of them."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    """Numbers from N(0, 1) in the shape of a tensor, and on its device."""
    return torch.from_numpy(generator.standard_normal(like.shape, dtype=np.float32)).to(like.device)
