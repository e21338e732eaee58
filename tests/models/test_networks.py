"""Networks take a modality's values as they are and give the shapes that were asked for."""

import pytest
import torch

from models import networks
from models.config import MLPConfig, ModalityConfig

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 4, 5)]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 9)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_of_any_rank_are_encoded_and_decoded(shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    config = MLPConfig(hidden_features=hidden)
    modality = ModalityConfig(name="m", shape=shape, likelihood="gaussian")
    features = networks.encoder(config, modality, 6)(torch.randn(4, *shape))
    assert features.shape == (4, 6)
    assert networks.decoder(config, 6, shape)(features).shape == (4, *shape)


def test_a_category_is_encoded_as_its_row_of_the_first_layer() -> None:
    modality = ModalityConfig(name="word", categories=3, likelihood="categorical")
    encoder = networks.encoder(MLPConfig(hidden_features=()), modality, 6)
    [weight, bias] = encoder.parameters()
    torch.testing.assert_close(encoder(torch.tensor([2, 0])), weight.T[[2, 0]] + bias)


def test_the_decoder_has_the_encoder_s_widths_in_reverse() -> None:
    decoder = networks.decoder(MLPConfig(hidden_features=(7, 9)), 6, (3,))
    widths = [layer.out_features for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [9, 7, 3]
