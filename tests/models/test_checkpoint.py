"""Checkpoints come back as they were, and files that are none are named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models import checkpoint
from models.architectures import Model
from models.checkpoint import CheckpointError
from tests.models.small import sequence_batch, sequence_model, static_batch, static_model


@pytest.mark.parametrize("model", [static_model(seed=3), sequence_model(seed=3)])
def test_a_loaded_model_gives_the_same_answers(model: Model, tmp_path: Path) -> None:
    batch = static_batch() if model.config.kind == "static" else sequence_batch()
    model.set_statistics({"audio": (torch.full((3,), 5.0), torch.full((3,), 2.0))})
    checkpoint.save(model, tmp_path / "m", {"run": "run_1"})
    loaded = checkpoint.load(tmp_path / "m")
    assert loaded.config == model.config
    assert checkpoint.read_metadata(tmp_path / "m") == {"run": "run_1"}
    torch.testing.assert_close(loaded.encode(batch), model.encode(batch), rtol=0, atol=0)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    checkpoint.save(static_model(), path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        checkpoint.load(path)


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="expected 'sensorium-model'"):
        checkpoint.load(tmp_path / "other")


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    checkpoint.save(static_model(), tmp_path / "m", {})
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    with pytest.raises(CheckpointError, match="expected at most 1"):
        checkpoint.load(tmp_path / "m")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = static_model()
    del model.encoders[0]
    checkpoint.save(model, tmp_path / "m", {})
    with pytest.raises(CheckpointError, match="weights that do not fit"):
        checkpoint.load(tmp_path / "m")
