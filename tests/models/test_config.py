"""Configurations refuse what cannot be built, and come back from JSON as they were."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from models.config import (
    ArchitectureOptions,
    Misfits,
    MMVAEOptions,
    MMVRNNOptions,
    ModalityConfig,
    complete,
    default_likelihood,
    parse,
)
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


def test_a_name_stands_once() -> None:
    with pytest.raises(Misfits, match="audio stand more than once"):
        complete(MMVAEOptions(), [MODALITIES[0], MODALITIES[0]])


def test_categories_and_likelihood_go_together() -> None:
    with pytest.raises(ValidationError, match="a categorical modality has categories"):
        ModalityConfig(name="x", likelihood="categorical")
    with pytest.raises(ValidationError, match="expected shape"):
        ModalityConfig(name="x", shape=(2,), categories=3, likelihood="categorical")


def test_the_default_likelihood_follows_from_the_type() -> None:
    assert default_likelihood("float32", None) == "gaussian"
    assert default_likelihood("int64", 10) == "categorical"


def test_configurations_are_read_without_torch() -> None:
    program = "import models, models.config, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
