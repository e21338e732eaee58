"""The training loop: `fit` turns a configuration and a dataset into events and, at the end, a model."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from models.architectures import add_conditional
from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.mmvae import MMVAE
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend
from models.ops.explain import explain
from models.training import calibrate, calibrate_draws, conditional, data, schedule, setup, stack
from models.training.dataset import Dataset
from models.training.events import Checkpoint, Epoch, Event, Finished, Started
from models.training.setup import Setup
from models.training.state import TrainingState
from models.training.validate import validate


class TrainingDiverged(RuntimeError):
    """The loss or its gradient is NaN or infinite. The message names the step and what to change."""


def _never() -> bool:
    return False


def fit(
    config: MMVAEConfig | MMVRNNConfig,
    dataset: Dataset,
    training: TrainingConfig,
    *,
    seed: int,
    device: str = "cpu",
    should_stop: Callable[[], bool] = _never,
    resume_from: TrainingState | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoint_seconds: float = math.inf,
    parts: Parts = NO_PARTS,
    backend: Backend = "auto",
) -> Iterator[Event]:
    """Train a model. Yields Started, an Epoch per epoch, Checkpoints in between, and Finished.

    All randomness is a function of (seed, step, row). The same seed gives the same weights on a CPU, bit for bit, also
    if a training was stopped and continued from its checkpoint (`resume_from`).

    init: initial weights, of a model of the same configuration. parts, backend: as in `models.build`. should_stop is
    called before every step; if it returns True, the last event is a Checkpoint. checkpoint_seconds: time between
    Checkpoints. If several processes of one `torch.distributed` group call this, they train one model together.

    If the configuration has a conditional part, it is fitted at the end, with Conditional events. `training.fit`
    "conditional" fits nothing else: the other weights are those of `init`.

    Raises UnusableData and UnusableState before the first event, and TrainingDiverged after a last Checkpoint.
    """
    run = setup.prepare(config, dataset, training, seed, device, resume_from, init, parts, backend)
    trainer, selection, group = run.trainer, run.selection, run.group
    yield _started(run, device)
    with _noting_steps(run):
        saved_at = time.monotonic()
        for epoch in range(run.epochs_done + 1, training.epochs + 1):
            if selection.stops_early or training.fit == "conditional":
                break
            for batch in run.batches(epoch):
                if group.any(should_stop()):
                    yield Checkpoint(run.state(), "stopped")
                    return
                if group.any(time.monotonic() - saved_at > checkpoint_seconds):
                    yield Checkpoint(run.state(), "interval")
                    saved_at = time.monotonic()
                beta, learning_rate = run.beta(), run.learning_rate()
                if not trainer.step(batch, beta, learning_rate):
                    yield Checkpoint(run.state(), "diverged")
                    raise _diverged(run, epoch)
            metrics = trainer.end_epoch() | {"beta": beta, "learning_rate": learning_rate} | _validated(run)
            selection.update(epoch, metrics, trainer)
            yield Epoch(epoch, training.epochs, trainer.step_count, metrics)
            if training.checkpoint_epochs and epoch % training.checkpoint_epochs == 0:
                yield Checkpoint(run.state(), "epoch")
                saved_at = time.monotonic()
        state = run.state() if run.conditional is not None else None
        finished = _finished(run)
        if state is not None and group.rank == 0 and not (yield from _fit_conditional(run, finished, should_stop)):
            yield Checkpoint(state, "stopped")
            return
        yield finished


def _started(run: Setup, device: str) -> Started:
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    kernels = explain(run.model, device, run.training, data.has_element_masks(run.dataset))
    return Started(
        parameters, len(run.train_rows), len(run.validation_rows), run.steps, run.trainer.step_count, kernels
    )


def _validated(run: Setup) -> dict[str, float]:
    """The metrics on the held-out rows; none without such rows."""
    if not len(run.validation_rows):
        return {}
    last_beta = schedule.last_beta(run.training.beta)
    with run.trainer.averaged():
        return validate(
            run.model, run.dataset, run.validation_rows, run.training, last_beta, run.seeds.validation, run.group
        )


def _finished(run: Setup) -> Finished:
    """The model of the chosen epoch, calibrated on the held-out rows."""
    best = run.selection.result(run.epochs_done, run.trainer)
    model = run.trainer.finish(best.weights)
    calibrate.calibrate(model, run.dataset, run.validation_rows, run.mask, run.seeds.validation)
    return Finished(model, best.epoch, best.metrics, run.train_rows, run.validation_rows)


def _fit_conditional(run: Setup, finished: Finished, should_stop: Callable[[], bool]) -> Generator[Event, None, bool]:
    """Add the conditional part to the finished model and fit it. Returns False if it was stopped."""
    model = finished.model
    assert run.conditional is not None  # noqa: S101 the caller has looked
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seeds.weights)
        add_conditional(model, run.conditional)
    model.to(next(model.parameters()).device)  # the new part as well
    rows, held_out, steps = finished.train_rows, finished.validation_rows, run.training.conditional_steps
    try:
        if not (yield from conditional.fit(model, run.dataset, rows, held_out, steps, run.seeds.noise, should_stop)):
            return False
    except FloatingPointError as error:
        raise TrainingDiverged(f"{error}; check the data's largest values") from error
    if isinstance(model, MMVAE):
        stack.fit(model, run.dataset, rows, held_out, run.seeds.validation)
    calibrate_draws.calibrate(model, run.dataset, held_out, run.seeds.validation)
    return True


def _diverged(run: Setup, epoch: int) -> TrainingDiverged:
    step = run.trainer.step_count
    return TrainingDiverged(
        f"the loss or its gradient is NaN or infinite at step {step + 1} of {run.steps} (epoch {epoch}); the "
        f"checkpoint of step {step} is the last good one; try a learning_rate below {run.training.learning_rate} or a "
        "smaller gradient_clip_norm, and check the data's largest values"
    )


@contextmanager
def _noting_steps(run: Setup) -> Iterator[None]:
    """Add the number of steps done to errors: an error that repeats at the same step is not retried."""
    try:
        yield
    except Exception as error:
        error.add_note(f"after {run.trainer.step_count} of {run.steps} steps")
        raise
