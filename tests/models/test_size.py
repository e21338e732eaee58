"""Closed forms of a model's size against models that were built."""

import itertools

import pytest

from models.architectures import build
from models.config import (
    CNNConfig,
    EmbeddingConfig,
    MLPConfig,
    MMVAEConfig,
    MMVRNNConfig,
    ModalityConfig,
    TrainingConfig,
)
from models.config.size import memory_bytes, size_of
from tests.models.small import JOINS, MODALITIES

MORE = (
    ModalityConfig(name="counts", shape=(5,), likelihood="negative_binomial"),
    ModalityConfig(name="spread", shape=(2,), likelihood="laplace", scale="predicted"),
    ModalityConfig(
        name="picture", shape=(3, 9, 12), likelihood="gaussian", scale="predicted", network=CNNConfig(channels=(4, 6))
    ),
    ModalityConfig(
        name="group",
        categories=7,
        likelihood="categorical",
        network=EmbeddingConfig(features=5, hidden_features=(4,), normalisation="layer"),
    ),
    ModalityConfig(
        name="photo",
        shape=(1, 8, 8),
        likelihood="bernoulli",
        network=CNNConfig(channels=(3,), kernel_size=5, normalisation="layer", hidden_features=()),
    ),
)
NETWORK = MLPConfig(hidden_features=(8, 6), normalisation="layer")


def _built(config: MMVAEConfig | MMVRNNConfig) -> int:
    return sum(parameter.numel() for parameter in build(config).parameters())


@pytest.mark.parametrize("expert", ["product", "weighted_product", "mixture", "hellinger"])
def test_an_mmvae_has_as_many_parameters_as_computed(expert: str) -> None:
    config = MMVAEConfig(modalities=MODALITIES + MORE, expert=expert, latent_features=3, network=NETWORK)
    size = size_of(config)
    assert size is not None
    assert size.parameters == _built(config)


@pytest.mark.parametrize(
    ("join", "inference", "recurrence", "layers"),
    list(itertools.product(JOINS, ("filter", "smooth"), ("gru", "lstm"), (1, 3))),
)
def test_an_mmvrnn_has_as_many_parameters_as_computed(
    join: dict[str, str], inference: str, recurrence: str, layers: int
) -> None:
    config = MMVRNNConfig.model_validate(
        {
            "modalities": MODALITIES + MORE[:2],
            **join,
            "inference": inference,
            "recurrence": recurrence,
            "recurrent_layers": layers,
            "latent_features": 3,
            "modality_features": 5,
            "hidden_features": 6,
            "recurrent_features": 7,
        }
    )
    size = size_of(config)
    assert size is not None
    assert size.parameters == _built(config)


@pytest.mark.parametrize(("fusion", "recurrence", "layers"), [("zero", "gru", 1), ("missing_embeddings", "lstm", 3)])
def test_a_static_latent_has_as_many_parameters_as_computed(fusion: str, recurrence: str, layers: int) -> None:
    options = {"fusion": fusion, "recurrence": recurrence, "recurrent_layers": layers, "inference": "smooth"}
    widths = {"latent_features": 3, "static_latent_features": 2, "modality_features": 5, "hidden_features": 6}
    config = MMVRNNConfig.model_validate({"modalities": MODALITIES, **options, **widths, "recurrent_features": 7})
    size = size_of(config)
    assert size is not None
    assert size.parameters == _built(config)


def test_memory_grows_with_the_batch_and_the_steps() -> None:
    config = MMVRNNConfig(modalities=MODALITIES)
    small, long = (memory_bytes(config, TrainingConfig(), steps) for steps in (10, 100))
    assert small is not None
    assert long is not None
    assert 5 < long / small < 10
