"""Which kernel serves a model on a device, in words."""

import copy
from typing import Any

import pytest
import torch

import models
from models import ops
from models.config import MLPConfig, MMVAEConfig, ModalityConfig, TrainingConfig
from models.mmvae import MMVAE
from models.ops import library
from models.ops.explain import Served, explain, in_words
from tests.models.small import sequence_batch, sequence_model, static_model

built = pytest.mark.usefixtures("kernels")

TRAINING = TrainingConfig.model_validate({"epochs": 1, "batch_size": 8})


def _small(**options: Any) -> MMVAE:
    modality = ModalityConfig(name="x", shape=(2,), likelihood="gaussian")
    network = MLPConfig(hidden_features=(10,))
    return MMVAE(MMVAEConfig(modalities=(modality,), latent_features=3, network=network, **options))


def _of(served: tuple[Served, ...]) -> dict[str, tuple[str, str]]:
    return {one.operation: (one.serves, one.reason or "") for one in served}


@built
def test_kernels_serve_small_models_on_the_cpu() -> None:
    assert [one.serves for one in explain(_small(), "cpu")] == ["kernel", "kernel", "none", "none"]
    assert [one.serves for one in explain(sequence_model(), "cpu")] == ["none", "none", "kernel", "none"]
    assert in_words(explain(sequence_model(), "cpu")) == "gru_loop: kernel"
    assert in_words(explain(_small(), "cpu", TRAINING)) == "elbo: kernel; posterior: kernel; philox: kernel"
    assert models.explain_examples("cpu") == "elbo: kernel; posterior: kernel; philox: kernel; gru_loop: kernel"


@built
def test_a_training_on_a_card_draws_its_random_numbers_by_the_kernel() -> None:
    half = TRAINING.model_copy(update={"precision": "bfloat16"})
    for device, training in (("cuda", TRAINING), ("cpu", half)):
        served = _of(explain(_small(), device, training))
        assert {name: what for name, (what, _) in served.items()} == {
            "elbo": "reference",
            "posterior": "reference",
            "gru_loop": "none",
            "philox": "kernel",
        }


@built
@pytest.mark.parametrize(
    ("options", "operation", "word"),
    [({"recurrence": "lstm"}, "gru_loop", "LSTM"), ({"posterior": "product_of_experts"}, "gru_loop", "posterior")],
)
def test_a_sequence_model_s_part_that_the_kernel_does_not_compute_is_named(
    options: dict[str, Any], operation: str, word: str
) -> None:
    serves, reason = _of(explain(sequence_model(**options), "cpu"))[operation]
    assert serves == "reference"
    assert word in reason


@built
def test_an_expert_that_the_kernels_do_not_compute_is_named() -> None:
    found = _of(explain(static_model(expert="mixture"), "cpu"))
    assert found["elbo"][0] == found["posterior"][0] == "reference"
    assert "expert" in found["elbo"][1].lower()


@pytest.mark.parametrize("model", [_small(), sequence_model()], ids=["mmvae", "mmvrnn"])
def test_a_card_half_precision_and_a_selected_backend_are_reasons(model: models.MMVAE | models.MMVRNN) -> None:
    half = TRAINING.model_copy(update={"precision": "bfloat16"})
    selected = copy.deepcopy(model)
    selected.backend = "reference"
    for served, word in [
        (explain(model, "cuda"), "cuda"),
        (explain(model, "cpu", half)[:3], "bfloat16"),
        (explain(selected, "cpu", TRAINING), "backend"),
    ]:
        used = [one for one in served if one.serves != "none"]
        assert [one.serves for one in used] == ["reference"] * len(used)
        assert all(word in (one.reason or "") for one in used)


def test_kernels_that_are_not_built_are_a_reason() -> None:
    with library.using(None):
        for model in (_small(), sequence_model()):
            used = [one for one in explain(model, "cpu", TRAINING) if one.serves != "none"]
            assert [one.reason for one in used] == [library.NOT_BUILT] * len(used)


@built
def test_the_importance_weighted_bound_is_not_the_elbo() -> None:
    training = TrainingConfig.model_validate({**TRAINING.model_dump(), "objective": {"name": "iwae"}})
    assert _of(explain(_small(), "cpu", training))["elbo"][0] == "reference"


@built
def test_the_explained_kernel_is_the_one_that_computes() -> None:
    """`explain` and the operations decide alike: the backend "kernel" fails exactly where a reference would serve."""
    for options in ({}, {"recurrence": "lstm"}, {"posterior": "product_of_experts"}):
        model = sequence_model(**options)
        serves, _ = _of(explain(model, "cpu"))["gru_loop"]
        model.backend = "kernel"
        with torch.no_grad():
            if serves == "kernel":
                model.encode(sequence_batch())
            else:
                with pytest.raises(ops.KernelUnavailable):
                    model.encode(sequence_batch())
