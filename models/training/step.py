"""One training step: a model, its optimiser and the average of its weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.fx.experimental.symbolic_shapes  # the first backward pass imports it: 0.3 s that a spare process saves
from torch import Tensor, nn

from models.architectures import Model
from models.config import TrainingConfig
from models.networks.mlp import ACTIVATIONS
from models.ops.elbo import Objective
from models.ops.philox import Draws
from models.training import objective
from models.training.average import WeightAverage
from models.training.distributed import Group
from models.training.flat import FlatParameters
from models.training.metrics import Totals
from models.training.optimiser import Optimiser
from models.training.prefetch import Prefetched

DETERMINISTIC = {
    *ACTIVATIONS.values(),
    *(nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm),
    *(nn.Flatten, nn.Unflatten, nn.Identity, nn.Sequential, nn.ModuleList),
}


class Trainer:
    """The state that changes from step to step: model, optimiser, weight average, sums of the epoch.

    observed_values: mean number of observed values per row, by which the loss is scaled. Adam does not depend on the
    loss's scale, but clipping does: per value, a norm means the same at any length and number of modalities.
    """

    def __init__(self, model: Model, training: TrainingConfig, group: Group, seed: int, observed_values: float) -> None:
        self.model = model
        self.step_count = 0
        self.totals = Totals()
        self.parameters = FlatParameters(model)
        model.parameter_vector = self.parameters.vector
        self.optimiser = Optimiser(self.parameters, training.optimiser, training.weight_decay)
        self.average = WeightAverage(self.parameters, training.weight_average) if training.weight_average else None
        self._training, self._group, self._seed, self._observed_values = training, group, seed, observed_values
        self._device = next(model.parameters()).device
        self._draws = draws_random_numbers(model)

    def step(self, batch: Prefetched, beta: float, learning_rate: float) -> bool:
        """One optimiser step. Returns False, and changes nothing, if the loss or its gradient is not finite."""
        if not self.model.training:
            self.model.train()
        self.optimiser.zero_grad()
        randomness = self._seed, self.step_count
        found = compute(self.model, batch, self._training, beta, self._device, randomness, self._group, self._draws)
        loss_scale = 1 / (batch.batch_rows * self._observed_values)
        found.loss.backward(torch.full_like(found.loss, loss_scale))
        loss = found.loss.detach().sum() / batch.batch_rows
        self._group.all_reduce([*self.parameters.gradients, *found.errors.values(), loss])
        norm = self.optimiser.clip(self._training.gradient_clip_norm)
        if not math.isfinite(loss.item() + norm):
            return False
        self.optimiser.step(learning_rate)
        self.model.adapt(found.errors)
        self.totals.add(found, batch.batch_rows)
        self.step_count += 1
        if self.average is not None:
            self.average.update(self.step_count)
        return True

    def end_epoch(self) -> dict[str, float]:
        """The means over the epoch's rows; resets the sums."""
        metrics = self.totals.means(self._group)
        self.totals = Totals()
        return metrics

    def averaged(self) -> AbstractContextManager[None]:
        """Within the context, the model has the weights that are validated, kept and served."""
        return nullcontext() if self.average is None else self.average.applied()

    def weights(self) -> dict[str, Tensor]:
        """Copies on the CPU of the weights that are validated, kept and served."""
        with self.averaged():
            return copied(self.model.state_dict())

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights and the standardisation of a model of the same configuration."""
        self.model.load_state_dict(dict(weights))
        if self.average is not None:
            self.average.reset()

    def finish(self, weights: Mapping[str, Tensor]) -> Model:
        """End the training: the model with these weights, in evaluation mode."""
        self.parameters.release()
        self.model.parameter_vector = None
        self.model.load_state_dict(dict(weights))
        return self.model.eval()


def compute(
    model: Model,
    batch: Prefetched,
    training: TrainingConfig,
    beta: float,
    device: torch.device,
    randomness: tuple[int, int],
    group: Group,
    draws: bool = True,
) -> Objective:
    """The training objective of a batch, in the precision of the training.

    randomness: (seed, step). draws: whether networks may draw random numbers themselves.
    """
    seed, step = randomness
    half = training.precision == "bfloat16"
    # networks that draw random numbers themselves, such as dropout, draw by seed, step and process, not by row
    with (
        _seeded(device, hash((seed, step, group.rank))) if draws else nullcontext(),
        torch.autocast(device.type, torch.bfloat16) if half else nullcontext(),
    ):
        return objective.negative_bound(
            model,
            batch.targets,
            training,
            beta,
            lambda stream: Draws(seed, step, stream, model.backend),
            batch.rows,
            batch.drawn,
        )


def draws_random_numbers(model: nn.Module) -> bool:
    """Whether a module may draw from PyTorch's generator, as dropout does. Built-in modules and common layers do not.

    Seeding the generator takes 5 % of the step of a small model.
    """
    return any(
        type(module) not in DETERMINISTIC and not type(module).__module__.startswith("models.")
        for module in model.modules()
    )


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within the context, torch's generators start at this seed. Afterwards their state is restored."""
    if device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.manual_seed(seed)
            yield
        return
    # torch.manual_seed also records the stack for each missing kind of device: 0.6 of a small step's 3 ms
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
