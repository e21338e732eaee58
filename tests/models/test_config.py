"""Configurations refuse what cannot be built, and come back from JSON as they were."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from models.config import (
    ArchitectureOptions,
    Misfits,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    MMVRNNOptions,
    ModalityConfig,
    complete,
    default_likelihood,
    parse,
)
from tests.models import golden
from tests.models.small import MODALITIES

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("options", [MMVAEOptions(latent_features=3), MMVRNNOptions(recurrent_features=9)])
def test_a_completed_config_survives_json(options: MMVAEOptions | MMVRNNOptions) -> None:
    config = complete(options, MODALITIES)
    assert parse(config.model_dump(mode="json")) == config
    assert config.architecture == options.architecture


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="layers"):
        TypeAdapter(ArchitectureOptions).validate_python({"architecture": "mmvae", "layers": 3})


def test_a_name_is_unique() -> None:
    with pytest.raises(Misfits, match="audio stand more than once"):
        complete(MMVAEOptions(), [MODALITIES[0], MODALITIES[0]])


def test_categories_and_likelihood_go_together() -> None:
    with pytest.raises(ValidationError, match="categorical with categories=None, expected the number of categories"):
        ModalityConfig(name="x", likelihood="categorical")
    with pytest.raises(ValidationError, match="expected shape"):
        ModalityConfig(name="x", shape=(2,), categories=3, likelihood="categorical")


def test_the_default_likelihood_follows_from_the_type() -> None:
    assert default_likelihood("float32", None) == "gaussian"
    assert default_likelihood("int64", 10) == "categorical"


def _statistics(minimum: float, maximum: float, mean: float, deviation: float, integral: bool = True) -> dict[str, Any]:
    return {"integral": integral, "minimum": minimum, "maximum": maximum, "mean": mean, "standard_deviation": deviation}


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (_statistics(0, 1, 0.3, 0.46), "bernoulli"),
        (_statistics(0, 12, 4.0, 2.0), "poisson"),
        (_statistics(0, 90, 4.0, 9.0), "negative_binomial"),
        # a variance of 1.4 and 1.6 means
        (_statistics(0, 90, 10.0, 14**0.5), "poisson"),
        (_statistics(0, 90, 10.0, 16**0.5), "negative_binomial"),
        (_statistics(-1, 12, 4.0, 2.0), "gaussian"),
        (_statistics(0, 12, 4.0, 2.0, integral=False), "gaussian"),
        ({}, "gaussian"),
    ],
)
def test_the_default_likelihood_of_numbers_follows_from_their_statistics(
    statistics: dict[str, Any], expected: str
) -> None:
    assert default_likelihood("float32", None, statistics) == expected
    assert default_likelihood("float32", 5, statistics) == "categorical"


def test_everything_that_does_not_fit_the_dataset_is_listed_with_its_place() -> None:
    options = MMVAEOptions.model_validate(
        {
            "network": {"name": "cnn"},
            "modalities": {
                "smell": {},
                "word": {"likelihood": "poisson"},
                "face": {"scale": 0.5},
                "audio": {"network": {"name": "embedding"}},
            },
        }
    )
    with pytest.raises(Misfits) as caught:
        complete(options, [*MODALITIES, ModalityConfig(name="touch", shape=(2,), likelihood="gaussian")])
    places = [misfit.place for misfit in caught.value.found]
    assert places == [
        ("modalities", "smell"),
        ("modalities", "audio"),
        ("modalities", "face"),
        ("modalities", "word"),
        ("network",),
    ]
    details = [misfit.detail for misfit in caught.value.found]
    assert "no modality 'smell', only audio, face, touch, word" in details[0]
    assert "an embedding takes categories" in details[1]
    assert "bernoulli, which has no scale 0.5" in details[2]
    assert "poisson with categories=4" in details[3]
    assert "modality 'touch': a cnn takes images" in details[4]
    assert "modalities.smell: the dataset has no modality" in str(caught.value)


def test_too_many_subsets_are_a_misfit_of_the_whole() -> None:
    many = [ModalityConfig(name=f"m{i}", likelihood="gaussian") for i in range(7)]
    with pytest.raises(Misfits) as caught:
        complete(MMVAEOptions(expert="mixture_of_products"), many)
    assert [misfit.place for misfit in caught.value.found] == [()]


def test_choices_for_one_modality_replace_only_those_of_that_modality() -> None:
    options = MMVAEOptions.model_validate(
        {"modalities": {"audio": {"likelihood": "laplace", "scale": 2, "network": {"hidden_features": [5]}}}}
    )
    audio, *others = complete(options, MODALITIES).modalities
    assert audio.likelihood == "laplace"
    assert audio.scale == 2.0
    assert audio.network is not None
    assert audio.network.model_dump()["hidden_features"] == (5,)
    assert audio.shape == (3,)
    assert tuple(others) == MODALITIES[1:]


@pytest.mark.parametrize(
    ("likelihood", "scale", "fits"),
    [
        ("gaussian", 0.5, True),
        ("gaussian", "predicted", True),
        ("laplace", 2, True),
        ("negative_binomial", "predicted", True),
        ("negative_binomial", 0.5, False),
        ("poisson", "predicted", False),
        ("bernoulli", 0.5, False),
        ("gaussian", 0, False),
        ("gaussian", -1.0, False),
        ("gaussian", "wide", False),
    ],
)
def test_a_scale_fits_its_likelihood(likelihood: str, scale: object, fits: bool) -> None:
    data = {"name": "m", "shape": (2,), "likelihood": likelihood, "scale": scale}
    if fits:
        assert ModalityConfig.model_validate(data).scale == scale
    else:
        with pytest.raises(ValidationError):
            ModalityConfig.model_validate(data)


def test_a_stored_product_of_experts_fusion_is_read_as_a_posterior() -> None:
    """tests/fixtures/golden was stored when a product of experts was a fusion."""
    stored = json.loads(json.loads(_header_of("gaussian-product_of_experts-filter-gru1"))["__metadata__"]["sensorium"])
    assert stored["config"]["fusion"] == "product_of_experts"
    config = parse(stored["config"])
    assert isinstance(config, MMVRNNConfig)
    assert (config.fusion, config.posterior) == ("missing_embeddings", "product_of_experts")
    assert parse(config.model_dump(mode="json")) == config


def _header_of(case: str) -> bytes:
    content = golden.archive("mmvrnn")[f"{case}/model"]
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


@pytest.mark.parametrize(
    ("stored", "start", "stacking"),
    [({}, "normal", False), ({"start": "regression"}, "regression", False), ({"stacking": True}, "normal", True)],
    ids=["the first", "before stacking", "today's"],
)
def test_a_stored_conditional_part_is_read_as_it_was(stored: dict[str, object], start: str, stacking: bool) -> None:
    config = complete(MMVAEOptions(), [ModalityConfig(name="a", shape=(2,), likelihood="gaussian")])
    found = parse({**config.model_dump(mode="json"), "conditional": stored})
    assert isinstance(found, MMVAEConfig)
    assert found.conditional is not None
    assert (found.conditional.start, found.conditional.stacking) == (start, stacking)


def test_requests_do_not_take_the_stored_form() -> None:
    with pytest.raises(ValidationError, match="no fusion of this name"):
        MMVRNNOptions.model_validate({"fusion": "product_of_experts"})


def test_configurations_are_read_without_torch() -> None:
    program = "import models, models.config, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
