"""`python -m worker.trainer`: trains one model. It knows no SQL and no Celery.

Spec: samples (path), config, training, seed, threads, result (path to write the checkpoint to).
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from models import checkpoint
from models.config import TrainingConfig, parse
from service.shared import samples
from worker import protocol
from worker.data import UnusableData
from worker.loop import Epoch, Finished, Started, TrainingDiverged, fit


def train(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Train as the spec says; the finished event has the path of the checkpoint and the last metrics."""
    torch.set_num_threads(spec["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = samples.open(Path(spec["samples"]))
    config = parse(spec["config"])
    training = TrainingConfig.model_validate(spec["training"])
    started_at = time.monotonic()
    try:
        for event in fit(config, training, data, seed=spec["seed"], device=device, should_stop=stopping.is_set):
            match event:
                case Started():
                    message = (
                        f"training {event.parameters} parameters on {event.train_rows} rows for {event.steps} steps "
                        f"({event.validation_rows} rows held out) on {device}"
                    )
                    emit({"event": "note", "level": "info", "type": "training", "message": message})
                    started_at = time.monotonic()
                case Epoch():
                    emit(_progress(event, time.monotonic() - started_at))
                case Finished():
                    result = Path(spec["result"])
                    checkpoint.save(event.model.cpu(), result, {"seed": str(spec["seed"])})
                    return {"result": str(result), "metrics": event.metrics}
    except UnusableData as error:
        raise protocol.Refused("unusable_data", str(error)) from error
    except TrainingDiverged as error:
        raise protocol.Refused("training_diverged", str(error)) from error
    return None


def _progress(epoch: Epoch, seconds: float) -> dict[str, Any]:
    fraction = epoch.epoch / epoch.epochs
    loss = epoch.metrics["loss"]
    print(f"epoch {epoch.epoch}/{epoch.epochs} step {epoch.step} loss {loss:.4f}", file=sys.stderr, flush=True)  # noqa: T201
    return {
        "event": "progress",
        "phase": "training",
        "fraction": fraction,
        "eta_seconds": seconds * (1 - fraction) / fraction,
        "step": epoch.step,
        "epoch": epoch.epoch,
        "metrics": epoch.metrics,
    }


if __name__ == "__main__":
    protocol.run(train)
