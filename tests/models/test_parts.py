"""Modules of somebody's own in place of encoders, decoders and the expert."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.architectures import build
from models.experts import Expert, Posterior
from models.gaussian import Gaussian
from models.io import checkpoint
from models.io.checkpoint import CheckpointError
from models.multimodal import Parts
from tests.models.small import sequence_batch, sequence_config, static_batch, static_config


class Doubled(nn.Module):
    """A linear map, twice."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.linear(x)


class Strongest(Expert):
    """The present expert of the smallest deviation."""

    def forward(self, experts: Gaussian, present: Tensor) -> Posterior:
        size = torch.where(present, experts.standard_deviation.sum(dim=-1), torch.inf)
        chosen = size.argmin(dim=0).reshape(1, -1, 1).expand(1, -1, self.latent_features)
        mean, deviation = (part.gather(0, chosen) for part in experts)
        return Posterior(Gaussian(mean, deviation), torch.ones(1, mean.shape[1]))


def _static_parts() -> Parts:
    return Parts(encoders={"audio": Doubled(3, 8)}, decoders={"word": Doubled(4, 4)}, expert=Strongest(3, 4))


def _sequence_parts() -> Parts:
    return Parts(encoders={"audio": Doubled(3, 5)}, decoders={"audio": Doubled(4 + 7, 3)})


def test_the_model_computes_with_own_modules() -> None:
    parts = _static_parts()
    model, batch = build(static_config(), parts).eval(), static_batch()
    audio, word = parts.encoders["audio"], parts.decoders["word"]
    assert model.encoders[0] is audio
    assert parts.expert is not None
    members = model.members(batch)
    torch.testing.assert_close(members[0].mean[1], audio(batch.values["audio"])[:, :4])
    torch.testing.assert_close(model.encode(batch).mean, parts.expert(*members).components.mean[0])
    code = torch.randn(1, 6, 4)
    torch.testing.assert_close(model.generate(code, ["word"])["word"][0], word(code[0]))


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_a_checkpoint_of_own_modules_needs_them_and_holds_their_weights(kind: str, tmp_path: Path) -> None:
    fresh = _static_parts if kind == "static" else _sequence_parts
    config, batch = (static_config(), static_batch()) if kind == "static" else (sequence_config(), sequence_batch())
    model = build(config, fresh()).eval()
    checkpoint.save(model, tmp_path / "m", {})
    loaded = checkpoint.load(tmp_path / "m", fresh())
    torch.testing.assert_close(loaded.encode(batch), model.encode(batch), rtol=0, atol=0)
    with pytest.raises(CheckpointError, match=r"encoders\.audio"):
        checkpoint.load(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"got \['encoders\.audio'\]"):
        checkpoint.load(tmp_path / "m", Parts(encoders={"audio": Doubled(3, 8)}))


def test_a_checkpoint_without_own_modules_refuses_some(tmp_path: Path) -> None:
    checkpoint.save(build(static_config()), tmp_path / "m", {})
    with pytest.raises(CheckpointError, match="needs parts none, got"):
        checkpoint.load(tmp_path / "m", _static_parts())


def test_parts_for_an_unknown_modality_are_refused() -> None:
    with pytest.raises(ValueError, match="parts are given for smell, expected some of audio, face, word"):
        build(static_config(), Parts(encoders={"smell": Doubled(3, 8)}))


def test_a_sequence_model_has_no_expert() -> None:
    with pytest.raises(ValueError, match="an MM-VRNN has a fusion"):
        build(sequence_config(), Parts(expert=Strongest(3, 4)))


def test_own_modules_compute_the_same_in_training_and_inference() -> None:
    class Residual(nn.Sequential):
        def forward(self, value: Tensor) -> Tensor:
            added: Tensor = value.repeat(1, 5)[:, :5] + super().forward(value)
            return added

    torch.manual_seed(0)
    model = build(sequence_config(), Parts(encoders={"audio": Residual(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 5))}))
    batch = sequence_batch((5, 3, 4))
    torch.testing.assert_close(model.train().encode(batch), model.eval().encode(batch))
