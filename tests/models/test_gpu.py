"""Both models train and encode on a CUDA card, and answer what they answer on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.architectures import Model, build
from models.config import MMVAEConfig, MMVRNNConfig, TrainingConfig
from models.ops.explain import explain
from models.ops.philox import Draws
from models.training.dataset import Dataset
from models.training.events import Finished
from models.training.loop import fit
from tests.models.small import randomly_present, sequence_batch, sequence_config, static_batch, static_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA card on this machine"),
]
TRAINING = TrainingConfig.model_validate({"epochs": 2, "batch_size": 8, "validation_fraction": 0.25})


def _config(kind: str) -> MMVAEConfig | MMVRNNConfig:
    return static_config() if kind == "static" else sequence_config()


def _dataset(kind: str) -> Dataset:
    """Values of the modalities that the small models have."""
    many = static_batch(40) if kind == "static" else sequence_batch([5, 3, 4, 2] * 10)
    batch = randomly_present(many)
    values: dict[str, NDArray[Any]] = {name: value.numpy() for name, value in batch.values.items()}
    present = {name: mask.numpy() for name, mask in batch.present.items()}
    lengths = None if batch.lengths is None else batch.lengths.numpy()
    return Dataset.from_arrays(values, kind, present, lengths)  # type: ignore[arg-type]


def _trained(kind: str, device: str) -> Finished:
    *_, last = fit(_config(kind), _dataset(kind), TRAINING, seed=3, device=device)
    assert isinstance(last, Finished)
    return last


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_a_training_on_the_gpu_ends_with_the_weights_of_the_cpu(kind: str) -> None:
    card, cpu = _trained(kind, "cuda"), _trained(kind, "cpu")
    assert card.metrics.keys() == cpu.metrics.keys()
    for name, value in cpu.metrics.items():
        assert card.metrics[name] == pytest.approx(value, rel=1e-2, abs=1e-2), name
    for (name, one), other in zip(card.model.named_parameters(), cpu.model.parameters(), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-2, atol=1e-2, msg=name)


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_codes_of_the_gpu_equal_those_of_the_cpu(kind: str) -> None:
    torch.manual_seed(0)
    model: Model = build(_config(kind), backend="reference").eval()
    batch = randomly_present(static_batch() if kind == "static" else sequence_batch())
    with torch.no_grad():
        cpu = model.encode(batch)
        card = model.cuda().encode(batch.to("cuda"))
    for one, other in zip(card, cpu, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-5)


def test_no_kernel_of_the_cpu_serves_a_card() -> None:
    for kind in ("static", "sequence"):
        assert all(one.serves != "kernel" for one in explain(build(_config(kind)), "cuda"))


def test_random_words_are_the_same_on_the_card() -> None:
    draws, rows = Draws(2**50 + 9, 2**40 + 3, 3), torch.tensor([0, 5, 2**31 + 1])
    card = draws.uniform(rows.cuda(), 9)
    assert card.is_cuda
    assert np.array_equal(card.cpu().numpy(), draws.uniform(rows, 9).numpy())
