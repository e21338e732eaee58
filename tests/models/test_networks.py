"""Networks take a modality's values as they are and give the shapes that were asked for."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models import networks
from models.architectures import build
from models.config import CNNConfig, CustomNetworkConfig, EmbeddingConfig, MLPConfig, ModalityConfig
from models.networks.mlp import ACTIVATIONS
from tests.models.small import MODALITIES, static_batch, static_config

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 4, 5)]
WORD = ModalityConfig(name="word", categories=3, likelihood="categorical")


def _image(*shape: int) -> ModalityConfig:
    return ModalityConfig(name="image", shape=shape, likelihood="gaussian")


def _kinds(module: nn.Module) -> list[type[nn.Module]]:
    return [type(layer) for layer in module.modules() if not isinstance(layer, nn.Sequential)]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 9)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_of_any_rank_are_encoded_and_decoded(shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    config = MLPConfig(hidden_features=hidden)
    modality = ModalityConfig(name="m", shape=shape, likelihood="gaussian")
    features = networks.encoder(config, modality, 6)(torch.randn(4, *shape))
    assert features.shape == (4, 6)
    assert networks.decoder(config, 6, shape)(features).shape == (4, *shape)


def test_a_category_is_encoded_as_its_row_of_the_first_layer() -> None:
    encoder = networks.encoder(MLPConfig(hidden_features=()), WORD, 6)
    [weight, bias] = encoder.parameters()
    torch.testing.assert_close(encoder(torch.tensor([2, 0])), weight.T[[2, 0]] + bias)


def test_the_decoder_has_the_encoder_s_widths_in_reverse() -> None:
    decoder = networks.decoder(MLPConfig(hidden_features=(7, 9)), 6, (3,))
    widths = [layer.out_features for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [9, 7, 3]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_hidden_layer_is_normalised_then_activated_then_thinned(activation: Any) -> None:
    config = MLPConfig(hidden_features=(7,), activation=activation, normalisation="layer", dropout=0.25)
    expected = [nn.Linear, nn.LayerNorm, ACTIVATIONS[activation], nn.Dropout, nn.Linear]
    assert _kinds(networks.encoder(config, _image(1, 2, 2), 6))[1:] == expected
    assert _kinds(networks.decoder(config, 6, (3,)))[:-1] == expected
    plain = MLPConfig(hidden_features=(7,), activation=activation)
    assert _kinds(networks.decoder(plain, 6, (3,)))[:-1] == [nn.Linear, ACTIVATIONS[activation], nn.Linear]


def test_an_mlp_equals_its_formula() -> None:
    config = MLPConfig(hidden_features=(7,), activation="tanh", normalisation="layer", dropout=0.5)
    encoder = networks.encoder(config, ModalityConfig(name="v", shape=(3,), likelihood="gaussian"), 6).eval()
    first, norm, last = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear | nn.LayerNorm))
    value = torch.randn(4, 3)
    hidden = value @ first.weight.T + first.bias
    deviation = (hidden.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
    hidden = torch.tanh((hidden - hidden.mean(dim=1, keepdim=True)) / deviation)
    assert norm.weight.eq(1).all()
    torch.testing.assert_close(encoder(value), hidden @ last.weight.T + last.bias)


def test_dropout_leaves_features_out_only_in_training() -> None:
    torch.manual_seed(0)
    encoder = networks.encoder(MLPConfig(hidden_features=(50,), dropout=0.5), _image(1, 2, 2), 6)
    value = torch.randn(4, 1, 2, 2)
    assert not torch.equal(encoder(value), encoder(value))
    assert torch.equal(encoder.eval()(value), encoder(value))


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 5)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (2, 5, 9), (1, 1, 1), (1, 28, 28)])
def test_images_of_odd_and_even_sizes_are_decoded_at_their_size(
    shape: tuple[int, ...], channels: tuple[int, ...], kernel_size: Any
) -> None:
    config = CNNConfig(channels=channels, kernel_size=kernel_size, hidden_features=(9,), normalisation="layer")
    features = networks.encoder(config, _image(*shape), 6)(torch.randn(2, *shape))
    assert features.shape == (2, 6)
    doubled = (2 * shape[0], *shape[1:])
    assert networks.decoder(config, 6, doubled)(features).shape == (2, *doubled)


def test_every_convolution_halves_the_image_rounded_up() -> None:
    encoder = networks.encoder(CNNConfig(channels=(4, 6)), _image(1, 7, 10), 6)
    sizes = []
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[1:])))
    encoder(torch.zeros(1, 1, 7, 10))
    assert sizes == [(4, 4, 5), (6, 2, 3)]


@pytest.mark.parametrize(
    ("config", "modality"),
    [
        (CNNConfig(channels=(4, 6), normalisation="layer"), _image(2, 6, 5)),
        (MLPConfig(normalisation="layer"), _image(2, 6, 5)),
    ],
)
def test_a_row_is_encoded_as_if_alone(config: Any, modality: ModalityConfig) -> None:
    encoder, value = networks.encoder(config, modality, 6).eval(), torch.randn(5, *modality.shape)
    torch.testing.assert_close(encoder(value)[3], encoder(value[3:4])[0], rtol=1e-4, atol=1e-5)


def test_an_embedding_is_a_learned_vector_for_each_category() -> None:
    encoder = networks.encoder(EmbeddingConfig(features=5), WORD, 6)
    vectors, weight, bias = encoder.parameters()
    assert vectors.shape == (3, 5)
    torch.testing.assert_close(encoder(torch.tensor([2, 0])), vectors[[2, 0]] @ weight.T + bias)
    decoder = networks.decoder(EmbeddingConfig(features=5, hidden_features=(8,)), 6, (3,))
    widths = [layer.out_features for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [8, 5, 3]
    code = torch.randn(2, 6)
    first, second, third = (layer for layer in decoder.modules() if isinstance(layer, nn.Linear))
    hidden = nn.functional.silu(nn.functional.silu(first(code)) @ second.weight.T + second.bias)
    torch.testing.assert_close(decoder(code), hidden @ third.weight.T + third.bias)


def test_an_installed_network_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constant.py").write_text(
        "import math, torch\n"
        "from models.networks import Network\n"
        "class Constant(torch.nn.Module):\n"
        "    def __init__(self, value, shape):\n"
        "        super().__init__()\n"
        "        self.value, self.shape = value, shape\n"
        "    def forward(self, x):\n"
        "        return torch.full((len(x), *self.shape), self.value)\n"
        "def encoder(config, modality, out_features):\n"
        "    return Constant(config.options['value'], (out_features,))\n"
        "def decoder(config, in_features, shape):\n"
        "    return Constant(config.options['value'], shape)\n"
        "network = Network(encoder, decoder)\n"
    )
    information = tmp_path / "constant-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: constant\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[sensorium.networks]\nconstant = constant:network\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    custom = CustomNetworkConfig(name="constant", options={"value": 0.5})
    config = static_config([MODALITIES[0].model_copy(update={"network": custom})])
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    model = build(config).eval()
    assert model.encoders[0](torch.zeros(2, 3)).eq(0.5).all()
    audio = {"audio": static_batch().values["audio"]}
    assert model.generate(torch.zeros(1, 6, 4), list(audio))["audio"].eq(0.5).all()


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="only mlp, cnn, embedding"):
        ModalityConfig.model_validate({"name": "m", "likelihood": "gaussian", "network": {"name": "oracle"}})
