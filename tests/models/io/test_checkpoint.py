"""Checkpoints come back as they were, and files that are none are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.architectures import Model
from models.batch import Batch
from models.config import ModalityConfig
from models.config.architecture import BUILT_IN_EXPERTS
from models.io import checkpoint
from models.io.checkpoint import CheckpointError
from tests.models.small import (
    JOINS,
    MODALITIES,
    randomly_present,
    sequence_batch,
    sequence_model,
    static_batch,
    static_model,
)

EVERY = (
    *MODALITIES,
    ModalityConfig.model_validate(
        {"name": "image", "shape": (2, 5, 4), "likelihood": "gaussian", "network": {"name": "cnn", "channels": [3, 4]}}
    ),
    ModalityConfig.model_validate(
        {"name": "tag", "categories": 9, "likelihood": "categorical", "network": {"name": "embedding"}}
    ),
    ModalityConfig(name="depth", likelihood="laplace", scale="predicted"),
    ModalityConfig(name="heat", shape=(2,), likelihood="laplace", scale=0.5),
    ModalityConfig(name="reads", shape=(2,), likelihood="negative_binomial"),
)
NETWORK = {"name": "mlp", "hidden_features": [6], "activation": "gelu", "normalisation": "layer", "dropout": 0.3}


def test_weights_from_before_there_was_a_calibration_have_none(tmp_path: Path) -> None:
    model = static_model()
    before = {name: tensor for name, tensor in model.state_dict().items() if ".widening." not in name}
    checkpoint.write(tmp_path / "old", checkpoint.header(model, {}), before)
    loaded = checkpoint.load(tmp_path / "old").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor)


def _values(batch: Batch, *leading: int) -> Batch:
    """The batch with values of the modalities of EVERY too."""
    generator = torch.Generator().manual_seed(1)
    values, present = dict(batch.values), dict(batch.present)
    for modality in EVERY[3:]:
        values[modality.name] = torch.rand(*leading, *modality.shape, generator=generator)
        if modality.categories is not None:
            values[modality.name] = torch.randint(0, modality.categories, leading, generator=generator)
        present[modality.name] = batch.present["audio"]
    return randomly_present(Batch(values, present, batch.lengths))


def _round_trip(model: Model, batch: Batch, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and answers before and after, of a model in which everything that is learned or adapted has changed."""
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape)
    model.set_statistics({"audio": (torch.full((3,), 5.0), torch.full((3,), 2.0))})
    noise = torch.randn(batch.rows, *model.latent_shape(batch))
    model.train()
    model.adapt(model.terms(batch, batch, noise).errors)
    checkpoint.save(model.eval(), path, {})
    loaded = checkpoint.load(path)
    assert loaded.config == model.config
    before, after = (
        {"state": dict(m.state_dict()), "code": m.encode(batch), "terms": tuple(m.terms(batch, batch, noise)[:2])}
        for m in (model, loaded)
    )
    return before, after


@pytest.mark.parametrize("expert", BUILT_IN_EXPERTS[:3])
def test_every_static_model_survives(expert: str, tmp_path: Path) -> None:
    model = static_model(EVERY, expert=expert, network=NETWORK)
    before, after = _round_trip(model, _values(static_batch(), 6), tmp_path / "m")
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_mixture_of_products_survives(tmp_path: Path) -> None:
    model = static_model(expert="mixture_of_products")
    before, after = _round_trip(model, randomly_present(static_batch()), tmp_path / "m")
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
@pytest.mark.parametrize("inference", ["filter", "smooth"])
@pytest.mark.parametrize("join", JOINS)
def test_every_sequence_model_survives(
    join: dict[str, str], inference: str, recurrence: str, layers: int, tmp_path: Path
) -> None:
    model = sequence_model(
        EVERY, network=NETWORK, **join, inference=inference, recurrence=recurrence, recurrent_layers=layers
    )
    before, after = _round_trip(model, _values(sequence_batch(), 3, 5), tmp_path / "m")
    torch.testing.assert_close(after, before, rtol=0, atol=0)


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
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
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
