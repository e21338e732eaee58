"""`python -m worker.trainer`: trains one model and evaluates it. It knows no SQL and no Celery.

Spec: samples (path), config, training, seed, threads, result (path to write the model to). Optional: checkpoints
(folder for training states), checkpoint_seconds (time between them), resume (path of a state to resume from) and init
(path of a model whose weights training begins with).
Under `torch.distributed.run` several of these processes train one model, and the first one reports.
"""

import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import torch

from models.config import TrainingConfig, parse
from models.io import checkpoint
from models.ops.explain import Served, in_words
from models.training import allocator, distributed, state
from models.training.checks import UnusableData
from models.training.dataset import Dataset, Modality
from models.training.evaluate import evaluate
from models.training.events import Checkpoint, Conditional, Epoch, Event, Finished, Started
from models.training.loop import TrainingDiverged, fit
from models.training.refit import refit
from models.training.state import UnusableState
from service.shared import samples
from service.shared.samples import Samples
from worker import protocol

log = structlog.get_logger(__name__)

CODES: dict[type[Exception], str] = {
    UnusableData: "unusable_data",
    UnusableState: "unusable_checkpoint",
    TrainingDiverged: "training_diverged",
}
"""Errors that come again at every attempt."""


def train(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Train as the spec says. Returns the path, metrics and evaluation of the model; None if it was stopped."""
    torch.set_num_threads(spec["threads"])
    allocator.keep_freed_memory()
    dataset = dataset_of(samples.open(Path(spec["samples"])))
    report = _Report(spec, emit)
    try:
        for event in _fit(spec, dataset, stopping):
            report(event)
            if isinstance(event, Finished) and distributed.rank() == 0:
                return {**_finish(spec, event, dataset, emit), "kernels": [each._asdict() for each in report.kernels]}
    except tuple(CODES) as error:
        raise protocol.Refused(CODES[type(error)], str(error)) from error
    return None


def dataset_of(samples: Samples) -> Dataset:
    """A stored dataset as the library reads it; no value is copied."""
    modalities = tuple(Modality(each.name, each.shape, each.categories) for each in samples.schema.modalities)
    kind = samples.schema.kind
    return Dataset(kind, modalities, samples.rows, samples.values, samples.present, samples.offsets, samples.splits)


def _fit(spec: dict[str, Any], dataset: Dataset, stopping: threading.Event) -> Iterator[Event]:
    return fit(
        parse(spec["config"]),
        dataset,
        TrainingConfig.model_validate(spec["training"]),
        seed=spec["seed"],
        device=distributed.device(),
        should_stop=stopping.is_set,
        init=checkpoint.read_weights(Path(spec["init"])) if spec.get("init") else None,
        resume_from=state.load(Path(spec["resume"])) if spec.get("resume") else None,
        checkpoint_seconds=spec.get("checkpoint_seconds", math.inf),
    )


class _Report:
    """Reports what `fit` yields as events of the job."""

    def __init__(self, spec: dict[str, Any], emit: protocol.Emit) -> None:
        self._checkpoints = spec.get("checkpoints")
        self._emit = emit
        self._rows = self._steps = self._step = self._first_step = self._last_epoch = 0
        self._started_at = self._epoch_at = time.monotonic()
        self.kernels: tuple[Served, ...] = ()

    def __call__(self, event: Event) -> None:
        """Report one event. Of several processes the first one writes checkpoints."""
        match event:
            case Started():
                self._start(event)
            case Epoch():
                self._epoch(event)
            case Conditional():
                self._conditional(event)
            case Checkpoint() if self._checkpoints and distributed.rank() == 0:
                path = Path(self._checkpoints) / f"step-{event.state.step:09d}"
                state.save(event.state, path)
                self._emit({"event": "checkpoint", "path": str(path), "step": event.state.step, "reason": event.reason})
            case Finished():
                self._emit(_progress("evaluating", 1.0, None, self._steps, event.epoch, {}))

    def _start(self, event: Started) -> None:
        log.info(f"kernels: {in_words(event.kernels)}")
        self.kernels = event.kernels
        again = f", {event.step} of them done before," if event.step else ""
        message = (
            f"training {event.parameters} parameters on {event.train_rows} rows for {event.steps} steps{again} "
            f"({event.validation_rows} rows held out) on {distributed.device()}"
        )
        self._emit({"event": "note", "level": "info", "type": "training", "message": message})
        self._rows, self._steps, self._step, self._first_step = event.train_rows, event.steps, event.step, event.step
        self._started_at = self._epoch_at = time.monotonic()

    def _conditional(self, event: Conditional) -> None:
        """After the epochs, whose fraction stays 1; alone, the fraction of its own steps."""
        log.info(f"conditional part, step {event.step}/{event.steps}", loss=round(event.loss, 4))
        eta_seconds = (time.monotonic() - self._epoch_at) / event.step * (event.steps - event.step)
        fraction = 1.0 if self._last_epoch else event.step / event.steps
        self._emit(_progress("conditional", fraction, eta_seconds, self._step, self._last_epoch, {}))

    def _epoch(self, event: Epoch) -> None:
        """An epoch that another process began counts with all of its rows."""
        log.info(f"epoch {event.epoch}/{event.epochs}", step=event.step, loss=round(event.metrics["loss"], 4))
        now = time.monotonic()
        eta_seconds = (now - self._started_at) / (event.step - self._first_step) * (self._steps - event.step)
        progress = _progress(
            "training", event.epoch / event.epochs, eta_seconds, event.step, event.epoch, event.metrics
        )
        throughput = {"rows": self._rows, "steps": event.step - self._step, "seconds": now - self._epoch_at}
        self._emit({**progress, "throughput": throughput})
        self._step, self._last_epoch, self._epoch_at = event.step, event.epoch, now


def _progress(
    phase: str, fraction: float, eta_seconds: float | None, step: int, epoch: int, metrics: dict[str, float]
) -> dict[str, Any]:
    return {
        "event": "progress",
        "phase": phase,
        "fraction": fraction,
        "eta_seconds": eta_seconds,
        "step": step,
        "epoch": epoch,
        "metrics": metrics,
    }


def _finish(spec: dict[str, Any], event: Finished, dataset: Dataset, emit: protocol.Emit) -> dict[str, Any]:
    """Evaluate the model, let it have the rows that the evaluation needed, and save it."""
    rows = event.train_rows, event.validation_rows
    evaluation = evaluate(event.model, dataset, *rows, spec["seed"], event.metrics)
    for warning in evaluation["warnings"]:
        emit({"event": "note", "level": "warning", **warning})
    refit(event, dataset, TrainingConfig.model_validate(spec["training"]))
    result = Path(spec["result"])
    checkpoint.save(event.model.cpu(), result, {"seed": str(spec["seed"]), "epoch": str(event.epoch)})
    return {"result": str(result), "metrics": event.metrics, "evaluation": evaluation}


def _read_spec() -> str:
    """The spec in every process: the processes of a group share one standard input, which the first one reads."""
    return distributed.broadcast(sys.stdin.readline() if distributed.rank() == 0 else "")


if __name__ == "__main__":
    with distributed.joined():
        protocol.run(train, _read_spec, emits=distributed.rank() == 0)
