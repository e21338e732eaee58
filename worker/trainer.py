"""`python -m worker.trainer`: trains one model and evaluates it. It knows no SQL and no Celery.

Spec: samples (path), config, training, seed, threads, result (path to write the model to); optionally checkpoints
(folder for training states), checkpoint_seconds (how often), resume (path of a state to go on from) and init (path of a
model to begin with).
Under `torch.distributed.run` several of these processes train one model; the first speaks for all.
"""

import math
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from models.config import TrainingConfig, parse
from models.io import checkpoint
from models.ops import gru_loop
from models.training import allocator, distributed, state
from models.training.data import UnusableData
from models.training.dataset import Dataset, Modality
from models.training.evaluate import evaluate
from models.training.events import Checkpoint, Epoch, Finished, Started
from models.training.loop import TrainingDiverged, fit
from models.training.state import UnusableState
from service.shared import samples
from service.shared.samples import Samples
from worker import protocol

log = structlog.get_logger(__name__)


def train(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Train as the spec says; the finished event has the paths, the metrics of the model's epoch and its evaluation."""
    torch.set_num_threads(spec["threads"])
    allocator.keep_freed_memory()
    device = distributed.device()
    data = dataset_of(samples.open(Path(spec["samples"])))
    started_at, first_step = time.monotonic(), 0
    try:
        events = fit(
            parse(spec["config"]),
            data,
            TrainingConfig.model_validate(spec["training"]),
            seed=spec["seed"],
            device=device,
            should_stop=stopping.is_set,
            init=checkpoint.read_weights(Path(spec["init"])) if spec.get("init") else None,
            resume_from=state.load(Path(spec["resume"])) if spec.get("resume") else None,
            checkpoint_seconds=spec.get("checkpoint_seconds", math.inf),
        )
        for event in events:
            match event:
                case Started():
                    log.info(f"loop over time: {gru_loop.loop_over_time()}")
                    _note(emit, "info", "training", _announcement(event, device))
                    started_at, first_step, steps = time.monotonic(), event.step, event.steps
                    rows, pace = event.train_rows, _Pace(started_at, first_step)
                case Epoch():
                    elapsed = time.monotonic() - started_at
                    eta_seconds = elapsed / (event.step - first_step) * (steps - event.step)
                    emit({**_progress(event, eta_seconds), "throughput": pace.of(event, rows)})
                case Checkpoint() if spec.get("checkpoints") and distributed.rank() == 0:
                    path = Path(spec["checkpoints"]) / f"step-{event.state.step:09d}"
                    state.save(event.state, path)
                    emit({"event": "checkpoint", "path": str(path), "step": event.state.step, "reason": event.reason})
                case Finished() if distributed.rank() == 0:
                    emit({**_progress_of("evaluating", 1.0, None), "step": steps, "epoch": event.epoch, "metrics": {}})
                    return _finish(spec, event, data, device, emit)
    except UnusableData as error:
        raise protocol.Refused("unusable_data", str(error)) from error
    except UnusableState as error:
        raise protocol.Refused("unusable_checkpoint", str(error)) from error
    except TrainingDiverged as error:
        raise protocol.Refused("training_diverged", str(error)) from error
    return None


def dataset_of(samples: Samples) -> Dataset:
    """A stored dataset as the library reads it; no value is copied."""
    modalities = tuple(Modality(one.name, one.shape, one.categories) for one in samples.schema.modalities)
    kind = samples.schema.kind
    return Dataset(kind, modalities, samples.rows, samples.values, samples.present, samples.offsets, samples.splits)


@dataclass
class _Pace:
    """When the last epoch ended, and after which step."""

    at: float
    step: int

    def of(self, epoch: Epoch, rows: int) -> dict[str, float]:
        """The rows, steps and seconds of an epoch. One that was begun before the process was counts as whole."""
        throughput = {"rows": rows, "steps": epoch.step - self.step, "seconds": time.monotonic() - self.at}
        self.at, self.step = time.monotonic(), epoch.step
        return throughput


def _finish(spec: dict[str, Any], event: Finished, data: Dataset, device: str, emit: protocol.Emit) -> dict[str, Any]:
    rows = event.train_rows, event.validation_rows
    evaluation = evaluate(event.model, data, *rows, spec["seed"], device, event.metrics)
    for warning in evaluation["warnings"]:
        _note(emit, "warning", warning["type"], warning["message"])
    result = Path(spec["result"])
    checkpoint.save(event.model.cpu(), result, {"seed": str(spec["seed"]), "epoch": str(event.epoch)})
    return {"result": str(result), "metrics": event.metrics, "evaluation": evaluation}


def _announcement(started: Started, device: str) -> str:
    again = f", {started.step} of them done before," if started.step else ""
    return (
        f"training {started.parameters} parameters on {started.train_rows} rows for {started.steps} steps{again} "
        f"({started.validation_rows} rows held out) on {device}"
    )


def _note(emit: protocol.Emit, level: str, type: str, message: str) -> None:
    emit({"event": "note", "level": level, "type": type, "message": message})


def _progress(epoch: Epoch, eta_seconds: float) -> dict[str, Any]:
    loss = epoch.metrics["loss"]
    log.info(f"epoch {epoch.epoch}/{epoch.epochs}", step=epoch.step, loss=round(loss, 4))
    progress = _progress_of("training", epoch.epoch / epoch.epochs, eta_seconds)
    return {**progress, "step": epoch.step, "epoch": epoch.epoch, "metrics": epoch.metrics}


def _progress_of(phase: str, fraction: float, eta_seconds: float | None) -> dict[str, Any]:
    return {"event": "progress", "phase": phase, "fraction": fraction, "eta_seconds": eta_seconds}


def _read_spec() -> str:
    """The spec in every process: the processes of a group share one standard input, which the first one reads."""
    return distributed.broadcast(sys.stdin.readline() if distributed.rank() == 0 else "")


if __name__ == "__main__":
    with distributed.joined():
        protocol.run(train, _read_spec, speaks=distributed.rank() == 0)
