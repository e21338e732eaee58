"""The trainer as a process: alone, resumed, and as a group that trains one model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import models
from models.config import TrainingConfig
from service.shared import samples
from tests.models.training.small import sequences, static, two
from tests.samples import of_dataset

ALONE = [sys.executable, "-m", "worker.trainer"]
TWO = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "worker.trainer",
]  # fmt: skip


def _spec(folder: Path, kind: str = "static", **more: Any) -> dict[str, Any]:
    samples.write(folder / "samples", of_dataset(static() if kind == "static" else sequences()))
    return {
        "samples": str(folder / "samples"),
        "config": two(kind).model_dump(mode="json"),
        "training": TrainingConfig(epochs=4, batch_size=20).model_dump(mode="json"),
        "seed": 5,
        "threads": 1,
        "result": str(folder / "result"),
        **more,
    }


def _run(command: list[str], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a trainer whose supervisor stays until it ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(spec).encode() + b"\n")
    process.stdin.flush()
    assert process.stderr is not None
    events = [json.loads(line) for line in process.stdout]
    log = process.stderr.read().decode()
    assert process.wait(300) == 0, log
    process.stdin.close()
    return events


def _losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["metrics"]["loss"] for event in events if event["event"] == "progress" and event["metrics"]]


def test_training_ends_with_a_model_and_its_evaluation(tmp_path: Path) -> None:
    events = _run(ALONE, _spec(tmp_path))
    finished = events[-1]
    assert finished["event"] == "finished"
    assert {"matrix", "elbo", "iwae_64", "latent", "warnings"} <= finished["evaluation"].keys()
    assert [event["phase"] for event in events if event["event"] == "progress"] == ["training"] * 4 + ["evaluating"]
    assert models.load(Path(finished["result"])).config == two()


def test_trainer_writes_checkpoints_and_resumes_from_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    spec = _spec(tmp_path, checkpoints=str(folder), checkpoint_seconds=0.0)
    events = _run(ALONE, spec)
    saved = [event for event in events if event["event"] == "checkpoint"]
    assert len(saved) > 5
    again = _run(ALONE, {**spec, "resume": saved[7]["path"], "result": str(tmp_path / "again")})
    assert f"{saved[7]['step']} of them done before" in again[0]["message"]
    assert (tmp_path / "again").read_bytes() == (tmp_path / "result").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_two_processes_give_the_loss_curve_of_one_process(kind: str, tmp_path: Path) -> None:
    spec = _spec(tmp_path, kind)
    one, both = _run(ALONE, spec), _run(TWO, {**spec, "result": str(tmp_path / "both")})
    assert both[-1]["event"] == "finished"
    assert _losses(both) == pytest.approx(_losses(one), rel=1e-4)
    assert len([event for event in both if event["event"] == "progress"]) == 5  # one of them reports
