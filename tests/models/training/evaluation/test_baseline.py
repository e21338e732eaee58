"""The best constant prediction of each modality."""

import numpy as np
import pytest
import torch

from models.architectures import build
from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.training.dataset import Dataset
from models.training.evaluation.baseline import baselines

MODALITIES = (
    ModalityConfig(name="bit", shape=(2,), likelihood="bernoulli"),
    ModalityConfig(name="word", categories=3, likelihood="categorical"),
    ModalityConfig(name="x", shape=(2,), likelihood="gaussian"),
)


def test_it_is_the_mean_or_the_most_frequent_category_of_the_present_values_of_these_rows() -> None:
    values = {
        "bit": np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
        "word": np.array([0, 2, 2, 0]),
        "x": np.array([[1.0, 10.0], [3.0, 20.0], [9.0, 9.0], [5.0, 0.0]]),
    }
    present = {"x": np.array([True, True, False, True])}
    dataset = Dataset.from_arrays(values, present=present)
    found = baselines(dataset, build(MMVAEConfig(modalities=MODALITIES)), np.array([0, 1, 2]))
    assert found["x"].tolist() == [2.0, 15.0]
    assert found["bit"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found["word"].item() == 2


def test_a_modality_that_no_row_has_is_predicted_as_0() -> None:
    dataset = Dataset.from_arrays({"x": np.ones((3, 2))}, present={"x": np.array([False, False, True])})
    model = build(MMVAEConfig(modalities=MODALITIES[2:]))
    assert torch.equal(baselines(dataset, model, np.arange(2))["x"], torch.zeros(2, dtype=torch.float64))


def test_of_sequences_it_is_the_mean_over_all_their_steps() -> None:
    values = {"x": np.arange(12.0).reshape(2, 3, 2)}
    dataset = Dataset.from_arrays(values, "sequence", lengths=np.array([1, 3]))
    found = baselines(dataset, build(MMVRNNConfig(modalities=MODALITIES[2:])), np.arange(2))
    assert found["x"].tolist() == [(0 + 6 + 8 + 10) / 4, (1 + 7 + 9 + 11) / 4]
