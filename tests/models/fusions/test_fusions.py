"""Fusion tells a missing modality from every value it could have."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

import models
from models import fusions
from models.config import MMVRNNOptions, TrainingConfig
from models.config.architecture import BUILT_IN_FUSIONS
from models.config.size import size_of
from models.fusions import Concatenation
from models.fusions.missing_embeddings import MissingEmbeddings
from tests.models.small import MODALITIES, randomly_present, sequence_batch, sequence_config, sequence_model


def test_no_values_and_a_false_mask_are_the_same() -> None:
    fusion = MissingEmbeddings(modalities=2, modality_features=3, out_features=4)
    seen, hidden = torch.randn(2, 5, 2, 3).unbind()
    everywhere, nowhere = torch.ones(5, 2, dtype=torch.bool), torch.zeros(5, 2, dtype=torch.bool)
    masked = fusion([seen, hidden], [everywhere, nowhere], everywhere)
    torch.testing.assert_close(masked, fusion([seen, None], [everywhere, None], everywhere))


def test_an_observation_equal_to_the_stand_in_is_distinguished_by_its_presence() -> None:
    torch.manual_seed(0)
    fusion = MissingEmbeddings(modalities=1, modality_features=3, out_features=4)
    alike = fusion.missing[0].expand(1, 2, -1)
    observed, missing = fusion([alike], [torch.tensor([[True, False]])], torch.ones(1, 2))[0]
    assert not torch.allclose(observed, missing)


def test_the_stand_in_is_learned_from_missing_steps_only() -> None:
    fusion = MissingEmbeddings(modalities=2, modality_features=3, out_features=4)
    present = [torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])]
    fusion([torch.randn(1, 2, 3), torch.randn(1, 2, 3)], present, present[0]).sum().backward()
    assert fusion.missing.grad is not None
    assert not fusion.missing.grad[0].any()
    assert fusion.missing.grad[1].any()


@pytest.mark.parametrize("name", BUILT_IN_FUSIONS)
def test_the_features_of_absent_steps_do_not_matter(name: str) -> None:
    torch.manual_seed(0)
    fusion = fusions.build(name, 2, 3, 4)
    features, mask = torch.randn(2, 1, 2, 3), torch.tensor([[True, False]])
    absent = features.clone()
    absent[:, :, 1] = math.nan
    torch.testing.assert_close(fusion([*absent], [mask, mask], mask), fusion([*features], [mask, mask], mask))


@pytest.mark.parametrize("name", BUILT_IN_FUSIONS)
@pytest.mark.parametrize("given", ["all", "one without values", "one without a mask", "none"])
def test_from_hidden_equals_forward_and_has_the_same_gradients(name: str, given: str) -> None:
    torch.manual_seed(0)
    fusion = fusions.build(name, 3, 4, 5)
    assert isinstance(fusion, Concatenation)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    last = [nn.Linear(6, 4) for _ in range(3)]
    masks = [torch.rand(2, 7) < 0.5 for _ in last]
    values = {"all": 3, "one without values": 2, "one without a mask": 3, "none": 0}[given]
    present = [mask if index or given != "one without a mask" else None for index, mask in enumerate(masks)]
    hidden = [torch.randn(2, 7, 6) if index < values else None for index in range(3)]
    features = [None if value is None else layer(value) for value, layer in zip(hidden, last, strict=True)]
    weights = [*fusion.parameters(), *(parameter for layer in last for parameter in layer.parameters())]
    expected, found = fusion(features, present, masks[0]), fusion.from_hidden(hidden, last, present, masks[0])
    torch.testing.assert_close(found, expected)
    ours, theirs = (
        torch.autograd.grad(joined.square().sum(), weights, allow_unused=True, materialize_grads=True)
        for joined in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BUILT_IN_FUSIONS)
def test_a_training_step_is_the_same_by_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model merges the encoders' last layers into the fusion in training, and its gradients do not change."""
    model, batch = sequence_model(fusion=name).train(), randomly_present(sequence_batch())
    noise = torch.randn(3, 5, 4)

    def gradients() -> tuple[torch.Tensor, ...]:
        terms = model.terms(batch, batch, noise)
        loss = terms.kl.sum() - sum(value.sum() for value in terms.log_likelihood.values())
        return torch.autograd.grad(loss, list(model.parameters()))

    merged = gradients()
    calls: list[str] = []
    monkeypatch.setattr(Concatenation, "forward", _counted(calls, Concatenation.forward))
    torch.testing.assert_close(gradients(), merged)
    assert not calls
    monkeypatch.setattr(model, "_last_layers", lambda: None)
    torch.testing.assert_close(gradients(), merged, rtol=1e-4, atol=1e-5)
    assert calls


MEAN_FUSION = """
import torch
from torch import nn
from models.fusions import Fusion

class MeanOfPresent(Fusion):
    def __init__(self, modalities, modality_features, out_features):
        super().__init__(modalities, modality_features, out_features)
        self.linear = nn.Linear(modality_features, out_features)

    def forward(self, features, present, like):
        total = torch.zeros(*like.shape, self.modality_features)
        count = torch.ones(*like.shape, 1)
        for feature, mask in zip(features, present):
            if feature is not None and mask is not None:
                total = total + torch.where(mask.unsqueeze(-1), feature, 0.0)
                count = count + mask.unsqueeze(-1)
        return torch.tanh(self.linear(total / count))
"""

CONSTANT_FUSION = """
import torch
from models.fusions import Concatenation

class HalfForMissing(Concatenation):
    def fill(self):
        return torch.full((self.modalities, self.modality_features), 0.5)
"""


@pytest.mark.parametrize(
    ("name", "code"), [("MeanOfPresent", MEAN_FUSION), ("HalfForMissing", CONSTANT_FUSION)], ids=["own", "by its fill"]
)
def test_a_registered_fusion_trains_saves_loads_and_serves(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"fusion_{name}.py").write_text(code)
    information = tmp_path / "my_fusion-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-fusion\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[sensorium.fusions]\nmine = fusion_{name}:{name}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    config = sequence_config(MODALITIES[:2], fusion="mine")
    assert size_of(config) is None
    batch = sequence_batch((5, 5, 5, 5))
    arrays = {modality.name: batch.values[modality.name].numpy() for modality in config.modalities}
    training = TrainingConfig(epochs=2, batch_size=2, validation_fraction=0.0)
    events = list(models.fit(config, models.Dataset.from_arrays(arrays, "sequence"), training, seed=0))
    finished = events[-1]
    assert isinstance(finished, models.Finished)
    assert type(finished.model.fusion).__name__ == name  # type: ignore[union-attr]
    models.save(finished.model, tmp_path / "m.safetensors", metadata={})
    predictor, present = models.load(tmp_path / "m.safetensors"), {"audio": np.ones((4, 5), dtype=bool)}
    answer = predictor.reconstruct({"audio": arrays["audio"]}, present, None, ["face"])
    expected = models.Predictor(finished.model).reconstruct({"audio": arrays["audio"]}, present, None, ["face"])
    np.testing.assert_array_equal(answer["face"]["probability"], expected["face"]["probability"])


def test_an_unknown_fusion_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="no fusion of this name, only missing_embeddings, zero"):
        MMVRNNOptions(fusion="product_of_experts")


def _counted(calls: list[str], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        calls.append(function.__name__)
        return function(*given)

    return call
