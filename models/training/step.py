"""A model under training: its optimiser, the epoch's sums, and the best weights so far."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models import batch
from models.architectures import Model as Model
from models.architectures import build
from models.batch import Batch
from models.config import ELBO, MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.io import checkpoint
from models.multimodal import Parts
from models.ops.philox import Draws
from models.training import calibrate, data, objective
from models.training.average import WeightAverage
from models.training.data import Rows
from models.training.dataset import Dataset
from models.training.distributed import Group
from models.training.objective import Drawn, Objective
from models.training.optimiser import Optimiser
from models.training.state import Best, TrainingState, UnusableState

# Numbers that are read and drawn at once: a call for a few takes as long as one for thousands.
AHEAD = 2**17


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the message names the step and what to change."""


class Totals:
    """Sums of an epoch's objective, kept on the device: reading them once is one wait instead of one a step."""

    def __init__(self) -> None:
        self.rows = 0
        self._names: list[str] = []
        self._values: Tensor | None = None

    @property
    def sums(self) -> dict[str, Tensor]:
        """By name, what has been counted."""
        return {} if self._values is None else dict(zip(self._names, self._values.unbind(), strict=True))

    def add(self, objective: Objective, rows: int) -> None:
        """Count a batch, of which `rows` rows were computed in all processes together."""
        names = ["loss", "kl", *(f"reconstruction/{name}" for name in objective.log_likelihood)]
        with torch.no_grad():
            parts = torch.stack([objective.loss, objective.kl, *objective.log_likelihood.values()])
            totals = parts.sum(dim=1, dtype=torch.float64)
            totals[2:].neg_()
            if self._values is not None:
                if names != self._names:  # a stored state has them in another order
                    sums = self.sums
                    self._values = torch.stack([sums[name] for name in names])
                totals += self._values
        self.rows += rows
        self._names, self._values = names, totals

    def begin_with(self, sums: Mapping[str, Tensor], rows: int) -> None:
        """Go on from these."""
        self.rows, self._names = rows, list(sums)
        self._values = torch.stack(list(sums.values())) if sums else None

    def means(self, group: Group, prefix: str = "", **others: Tensor) -> dict[str, float]:
        """Means over all rows counted so far, of all processes; `others` are further sums over them."""
        sums = {name: total.clone() for name, total in {**self.sums, **others}.items()}
        group.add(list(sums.values()))
        return {f"{prefix}{name}": total.item() / self.rows for name, total in sums.items()}


class Ready(NamedTuple):
    """What a step begins with: this process's rows, how many all processes have, their values, and what was drawn."""

    rows: Rows
    batch_rows: int
    targets: Batch
    drawn: Drawn | None = None


class Session:
    """What changes from step to step. The parts of a batch that other processes compute are added up by `group`."""

    def __init__(
        self,
        config: MMVAEConfig | MMVRNNConfig,
        training: TrainingConfig,
        dataset: Dataset,
        train_rows: Rows,
        device: str,
        group: Group,
        parts: Parts,
        weight_seed: int,
        noise_seed: int,
    ) -> None:
        self._training = training
        self._dataset = dataset
        self._device = torch.device(device)
        self._group = group
        self._noise_seed = noise_seed
        self.model = _build(config, parts, weight_seed)
        self.model.set_statistics(data.statistics(dataset, config, train_rows))
        self.model.to(self._device)
        self._optimiser = Optimiser(list(self.model.parameters()), training.optimiser, training.weight_decay)
        # Adam does not mind the size of the objective, but clipping does: per value it means the same at any length.
        self._values = data.observed_values_per_row(dataset)
        numbers = self.model.latent_features + sum(math.prod(one.shape) for one in dataset.modalities)
        # sequences are padded to the longest of their own batch
        self._at_once = max(1, AHEAD // (training.batch_size * numbers)) if dataset.offsets is None else 1
        decay = training.weight_average
        self._average = WeightAverage(self.model, decay) if decay else None
        self._totals = Totals()
        self._best: Best | None = None
        self._lowest: float | None = None
        self._waited = 0
        self._metrics: dict[str, float] = {}
        self.step = 0

    def ahead(self, batches: Sequence[Rows]) -> Iterator[Ready]:
        """What the next steps, one on each of these rows, begin with: that of several small ones is read at once."""
        for start in range(0, len(batches), self._at_once):
            yield from self._ready(batches[start : start + self._at_once])

    def advance(self, ready: Ready, beta: float, learning_rate: float) -> bool:
        """One step of the optimiser; false, and nothing has changed, where it would not be finite."""
        if not self.model.training:
            self.model.train()
        slope = 1 / (ready.batch_rows * self._values)
        self._optimiser.zero_gradients()
        found = self._objective(ready, beta, self.step, self._noise_seed, slope)
        if found.loss.requires_grad:
            found.loss.backward(torch.full_like(found.loss, slope))
        whole = found.loss.detach().sum() / ready.batch_rows
        self._group.add([*self._optimiser.gradients, *found.errors.values(), whole])
        norm = self._optimiser.clip(self._training.gradient_clip_norm)
        if not math.isfinite(whole.item() + norm):
            return False
        self._optimiser.step(learning_rate)
        self.model.adapt(found.errors)
        self._totals.add(found, ready.batch_rows)
        self.step += 1
        if self._average is not None:
            self._average.follow(self.step)
        return True

    def close_epoch(self) -> dict[str, float]:
        """The metrics of the epoch that is done; the next one begins."""
        metrics = self._totals.means(self._group)
        self._totals = Totals()
        return metrics

    @torch.no_grad()
    def validate(self, rows: Rows, beta: float, seed: int) -> dict[str, float]:
        """The objective on held-out rows, with the same masks and noise every time: what changes is the model."""
        self.model.eval()
        totals = Totals()
        size = self._training.batch_size
        profile = torch.zeros((), dtype=torch.float64, device=self._device)
        with self._averaged():
            for start in range(0, len(rows), size):
                chunk = rows[start : start + size]
                mine = self._group.share(chunk)
                if len(mine):
                    targets = self._targets(mine)
                    totals.add(self._objective(Ready(mine, len(chunk), targets), beta, 0, seed), len(chunk))
                    inputs = self._hide(targets, mine, seed)
                    profile += objective.negative_profile(self.model, inputs, targets).double().sum()
                else:
                    totals.rows += len(chunk)
        return totals.means(self._group, "validation_", profile=profile)

    def judge(self, epoch: int, metrics: dict[str, float]) -> None:
        """Keep the weights if the epoch is the best, and count how long early stopping has waited."""
        self._metrics = metrics
        if self._training.select == "best" and self._training.holds_out:
            value = metrics[self._training.select_metric]
            if self._best is None or value < self._best.value:
                with self._averaged():
                    self._best = Best(epoch, value, metrics, _copied(self.model.state_dict().items()))
        if (stopping := self._training.early_stopping) is not None:
            value = metrics[stopping.metric]
            if self._lowest is None or value < self._lowest - stopping.minimum_change:
                self._lowest, self._waited = value, 0
            else:
                self._waited += 1

    def patience_is_over(self) -> bool:
        """Whether early stopping ends the training here."""
        stopping = self._training.early_stopping
        return stopping is not None and self._waited >= stopping.patience

    def choose(self, last_epoch: int) -> tuple[int, dict[str, float]]:
        """Give the model the weights that are the result, for good; returns their epoch and its metrics."""
        self._optimiser.release()
        if self._best is None:
            with self._averaged():
                weights = _copied(self.model.state_dict().items())
            self.model.load_state_dict(weights)
            return last_epoch, self._metrics
        self.model.load_state_dict(self._best.weights)
        return self._best.epoch, self._best.metrics

    def calibrate(self, rows: Rows, seed: int) -> None:
        """Make the deviations predicted for missing values right on held-out rows, with gaps like the training's."""

        def hide(targets: Batch, rows: Rows, number: int) -> Batch:
            return self._hide(targets, rows, seed, number)

        calibrate.calibrate(self.model.eval(), self._dataset, rows, hide, seed)

    def state(self, identity: dict[str, Any]) -> TrainingState:
        """All of this, to go on from; the same in every process, which all have to ask."""
        totals = _copied(self._totals.sums.items())
        self._group.add(list(totals.values()))
        with self._averaged():
            weights = _copied(self.model.state_dict().items())
            live = _copied(self._average.aside().items()) if self._average is not None else {}
        return TrainingState(
            header=checkpoint.header(self.model, {}),
            identity=identity,
            step=self.step,
            weights=weights,
            live=live,
            optimiser=self._optimiser.tensors(),
            totals=totals,
            rows=self._totals.rows,
            best=self._best,
            waited=self._waited,
            lowest=self._lowest,
            metrics=self._metrics,
        )

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights, and the standardisation, of a model of the same configuration."""
        self.model.load_state_dict(dict(weights))
        if self._average is not None:
            self._average = WeightAverage(self.model, self._training.weight_average)

    def restore(self, saved: TrainingState, identity: dict[str, Any]) -> None:
        """Go on from a state. Raises UnusableState for one of another training."""
        if different := [key for key, value in identity.items() if saved.identity.get(key) != value]:
            raise UnusableState(f"the checkpoint is of a training with another {', '.join(different)}")
        self.model.load_state_dict(saved.weights)
        if self._average is not None:
            self._average.begin_with(saved.live)
        self._optimiser.restore(saved.optimiser)
        # sums of all processes: one takes them along, or they would count several times
        share = 1.0 if self._group.rank == 0 else 0.0
        totals = {name: share * total.to(self._device) for name, total in saved.totals.items()}
        self._totals.begin_with(totals, saved.rows)
        self._best, self._waited, self._lowest = saved.best, saved.waited, saved.lowest
        self._metrics = saved.metrics
        self.step = saved.step

    def _hide(self, targets: Batch, rows: Rows, seed: int, number: int = 0) -> Batch:
        return objective.hidden(targets, self._training, lambda stream: Draws(seed, number, stream), rows)

    def _averaged(self) -> AbstractContextManager[None]:
        """Within it the model has the weights that are validated, kept and served."""
        return nullcontext() if self._average is None else self._average.in_place()

    def _targets(self, rows: Rows) -> Batch:
        targets = data.batch_of(self._dataset, rows)
        batch.check(targets, self.model.modalities, self.model.config.kind)
        return targets.to(self._device)

    def _ready(self, batches: Sequence[Rows]) -> list[Ready]:
        mine = [self._group.share(rows) for rows in batches]
        sizes, counts = [len(rows) for rows in mine], [len(rows) for rows in batches]
        every = np.concatenate(mine)
        targets = self._targets(every)
        parts = targets.split(sizes) if len(mine) > 1 else [targets]
        if not isinstance(self._training.objective, ELBO):
            return [Ready(*part) for part in zip(mine, counts, parts, strict=True)]
        steps = np.repeat(np.arange(self.step, self.step + len(mine)), sizes)
        seed = self._noise_seed
        drawn = objective.draw(self.model, targets, self._training, lambda stream: Draws(seed, steps, stream), every)
        inputs = drawn.inputs.split(sizes) if len(mine) > 1 else [drawn.inputs]
        of_each = map(Drawn, inputs, drawn.noise.split(sizes))
        return [Ready(*part) for part in zip(mine, counts, parts, of_each, strict=True)]

    def _objective(self, ready: Ready, beta: float, step: int, seed: int, slope: float | None = None) -> Objective:
        half = self._training.precision == "bfloat16"
        # What networks draw by themselves, as dropout does, has no rows; it is a function of seed, step and process.
        randomness = _seeded(self._device, hash((seed, step, self._group.rank)))
        with randomness, torch.autocast(self._device.type, torch.bfloat16) if half else nullcontext():
            return objective.negative_bound(
                self.model,
                ready.targets,
                self._training,
                beta,
                lambda stream: Draws(seed, step, stream),
                ready.rows,
                slope,
                ready.drawn,
            )


def _build(config: MMVAEConfig | MMVRNNConfig, parts: Parts, seed: int) -> Model:
    # The caller gets torch's global generator back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config, parts)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within it torch's own generators begin at this seed; the caller gets them back as they were."""
    if device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.manual_seed(seed)
            yield
        return
    # that function also notes the stack for every kind of device that is not there: 0.6 of a small step's 3 ms
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def _copied(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors}
