"""An expert, a fusion and a network that a package adds by entry points do all that built-in ones do."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import models
from models.config import CustomNetworkConfig, MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig, TrainingConfig
from models.config.size import size_of
from models.mmvae import MMVAE
from models.synthetic import spirals
from models.training import data
from tests import installed

MODULE = '''"""An expert, a fusion and a network."""

import torch
from torch import nn

from models.experts import Expert, Posterior
from models.fusions import Fusion
from models.gaussian import Gaussian
from models.networks import Network


class Averaged(Expert):
    """The normalised geometric mean of the present experts and the prior: precisions are averaged, not added."""

    def forward(self, experts, present):
        precision = self.shares_of_all(present).unsqueeze(-1) * experts.precision
        total = precision.sum(dim=0)
        return Posterior.of_one((precision * experts.mean).sum(dim=0) / total, total)

    def shares(self, experts, present):
        return self.shares_of_all(present)[1:]

    def shares_of_all(self, present):
        return present.float() / present.sum(dim=0)


class Averaging(Fusion):
    """A linear layer of the mean of the present features."""

    def __init__(self, modalities, modality_features, out_features):
        super().__init__(modalities, modality_features, out_features)
        self.layer = nn.Linear(modality_features, out_features)

    def forward(self, features, present, like):
        total = torch.zeros(*like.shape, self.modality_features)
        count = torch.zeros(*like.shape, 1)
        for feature, mask in zip(features, present, strict=True):
            if feature is not None:
                total = total + torch.where(mask.unsqueeze(-1), feature, 0.0)
                count = count + mask.unsqueeze(-1)
        return torch.tanh(self.layer(total / count.clamp(min=1)))


def encoder(config, modality, out_features):
    width = config.options["width"]
    return nn.Sequential(nn.Linear(*modality.shape, width), nn.Softplus(), nn.Linear(width, out_features))


def decoder(config, in_features, shape):
    width = config.options["width"]
    return nn.Sequential(nn.Linear(in_features, width), nn.Softplus(), nn.Linear(width, *shape))


SOFTPLUS = Network(encoder, decoder)
'''
POINTS = {
    "sensorium.experts": {"averaged": "own_parts:Averaged"},
    "sensorium.fusions": {"averaging": "own_parts:Averaging"},
    "sensorium.networks": {"softplus": "own_parts:SOFTPLUS"},
}
ROWS, HELD_OUT = 200, 40
A, B = (ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("a", "b"))
PLAIN = MLPConfig(hidden_features=(16,))
OWN = CustomNetworkConfig.model_construct(name="softplus", options={"width": 16})


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed.install(tmp_path, "own_parts", MODULE, POINTS)))


def _samples() -> models.Dataset:
    """b follows a; a quarter of the rows lack each. Absent numbers are NaN."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(ROWS, 2))
    values = {"a": a, "b": 3 + a @ np.array([[1.0, -1.0], [1.0, 1.0]]) + 0.1 * generator.normal(size=(ROWS, 2))}
    present = {"a": np.arange(ROWS) % 4 != 0, "b": np.arange(ROWS) % 4 != 1}
    for name, mask in present.items():
        values[name][~mask] = math.nan
    return models.Dataset.from_arrays(values, present=present)


def _sequences() -> models.Dataset:
    found = spirals(ROWS, 8, seed=0)
    present = {name: np.random.default_rng(1).random((ROWS, 8)) < 0.9 for name in found}
    values = {"a": found["m1"], "b": found["m2"]}
    return models.Dataset.from_arrays(values, "sequence", dict(zip("ab", present.values(), strict=True)))


def _config(part: str) -> MMVAEConfig | MMVRNNConfig:
    if part == "expert":
        return MMVAEConfig(modalities=(A, B), latent_features=4, expert="averaged", network=PLAIN)
    if part == "network":
        return MMVAEConfig(modalities=(A, B), latent_features=4, network=OWN)
    return MMVRNNConfig(modalities=(A, B), latent_features=4, fusion="averaging", network=PLAIN)


def _trained(config: MMVAEConfig | MMVRNNConfig, dataset: models.Dataset) -> models.Finished:
    options: dict[str, Any] = {"epochs": 40, "batch_size": 32, "learning_rate": 1e-2}
    training = TrainingConfig(**options, validation_rows=tuple(range(HELD_OUT)))
    *_, finished = models.fit(config, dataset, training, seed=1)
    assert isinstance(finished, models.Finished)
    return finished


@pytest.mark.parametrize("part", ["expert", "network", "fusion"])
def test_it_is_trained_evaluated_saved_and_used_for_inference(part: str, tmp_path: Path) -> None:
    config = _config(part)
    dataset = _samples() if config.kind == "static" else _sequences()
    finished = _trained(config, dataset)
    report = models.evaluate(finished.model, dataset, finished.train_rows, finished.validation_rows, seed=0)
    entries = {(*entry["observed"], "->", entry["target"]): entry for entry in report["matrix"]}
    for given, target in (("a", "b"), ("b", "a")):
        entry = entries[given, "->", target]
        assert entry["error"] < 0.5 * entry["baseline_error"]
        assert 0.6 < entry["coverage_90"] <= 1
    if part == "expert":
        assert set(report["expert_shares"]) == {"a", "b"}

    models.save(finished.model, tmp_path / "model.safetensors", {})
    predictor = models.load(tmp_path / "model.safetensors")
    assert predictor.config == config
    batch = data.batch_of(dataset, np.arange(HELD_OUT))
    lengths = None if batch.lengths is None else batch.lengths.numpy()
    values, present = ({name: one.numpy() for name, one in parts.items()} for parts in (batch.values, batch.present))
    latent = predictor.encode(values, present, lengths)
    with torch.no_grad():
        own = finished.model.encode(batch)
    np.testing.assert_allclose(latent.mean, own.mean.numpy(), rtol=1e-5, atol=1e-5)
    assert np.isfinite(latent.standard_deviation).all()
    unknown = {"a": np.full_like(values["a"], 7.0), "b": values["b"]}
    hidden = {"a": np.zeros_like(present["a"]), "b": present["b"]}
    only = {name: values[name] for name in "b"}, {name: hidden[name] for name in "b"}
    answers = [predictor.reconstruct(*asked, lengths, ["a"])["a"]["mean"] for asked in ((unknown, hidden), only)]
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)
    assert np.isfinite(predictor.score(values, present, lengths).bound).all()
    steps = None if config.kind == "static" else 3
    assert np.isfinite(predictor.sample(5, steps, seed=3)["a"]["value"]).all()
    if config.kind == "sequence":
        assert np.isfinite(predictor.forecast(values, present, lengths, 2, ["a"], 3)["a"]["quantiles"]).all()
    predictor.warm_up()


def test_the_expert_s_posterior_is_the_geometric_mean_of_the_present_experts() -> None:
    model = models.build(_config("expert")).eval()
    assert isinstance(model, MMVAE)
    batch = data.batch_of(_samples(), np.arange(8))
    members, present = model.members(batch)
    found = model.encode(batch)
    share = present.float() / present.sum(dim=0)
    precision = share.unsqueeze(-1) / members.standard_deviation.square()
    torch.testing.assert_close(found.standard_deviation, precision.sum(dim=0).rsqrt())
    torch.testing.assert_close(found.mean, (precision * members.mean).sum(dim=0) / precision.sum(dim=0))


def test_kernels_leave_them_to_pytorch_and_sizes_are_unknown() -> None:
    expert, network = (models.build(_config(part)) for part in ("expert", "network"))
    for model, word in ((expert, "Averaged"), (network, "Softplus")):
        reasons = {one.operation: one.reason or "" for one in models.explain(model, "cpu", TrainingConfig())}
        assert all(word in reasons[name] or "not built" in reasons[name] for name in ("elbo", "posterior"))
    assert [size_of(_config(part)) for part in ("expert", "network", "fusion")] == [None] * 3


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (MMVAEConfig, {"expert": "none"}, "there is no expert of this name, only averaged, hellinger, mixture"),
        (MMVRNNConfig, {"fusion": "none"}, "there is no fusion of this name, only averaging, missing_embeddings, zero"),
        (
            MMVAEConfig,
            {"network": {"name": "none"}},
            "there is no network of this name, only mlp, cnn, embedding, soft",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_exist(config: Any, options: Any, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        config.model_validate({"modalities": (A, B), **options})
