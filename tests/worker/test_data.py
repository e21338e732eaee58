"""From a stored dataset to batches and statistics."""

import numpy as np
import pytest
import torch

from models.batch import check
from models.config import MMVAEOptions, MMVRNNOptions, ModalityConfig, complete, default_likelihood
from service.shared.samples import ModalitySchema, Samples, Schema
from worker import data
from worker.data import UnusableData

STATIC = Schema(
    kind="static",
    modalities=(
        ModalitySchema(name="audio", shape=(2,), dtype="float32"),
        ModalitySchema(name="word", shape=(), dtype="int64", categories=3),
    ),
)
SEQUENCE = Schema(kind="sequence", modalities=STATIC.modalities)


def static_samples(rows: int = 5) -> Samples:
    """The audio of row 1 is absent."""
    values = {"audio": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), "word": np.arange(rows) % 3}
    present = {"audio": np.arange(rows) != 1, "word": np.ones(rows, dtype=bool)}
    return Samples(STATIC, rows, values, present)


def sequence_samples() -> Samples:
    """Two sequences of 3 and 2 steps; the word of the first step is absent."""
    values = {"audio": np.arange(10, dtype=np.float32).reshape(5, 2), "word": np.array([0, 1, 2, 0, 1])}
    present = {"audio": np.ones(5, dtype=bool), "word": np.array([False, True, True, True, True])}
    return Samples(SEQUENCE, 2, values, present, np.array([0, 3, 5]))


def modalities() -> list[ModalityConfig]:
    """The schema's modalities as a model takes them."""
    return [
        ModalityConfig(
            name=m.name, shape=m.shape, categories=m.categories, likelihood=default_likelihood(m.dtype, m.categories)
        )
        for m in STATIC.modalities
    ]


def test_rows_become_a_batch_with_their_presence() -> None:
    batch = data.batch_of(static_samples(), np.array([3, 1]))
    check(batch, modalities(), "static")
    assert batch.values["audio"].tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert batch.present["audio"].tolist() == [True, False]
    assert batch.values["word"].tolist() == [0, 1]


def test_sequences_are_padded_to_the_longest_of_the_batch() -> None:
    batch = data.batch_of(sequence_samples(), np.array([1, 0]))
    check(batch, modalities(), "sequence")
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 3]
    assert batch.values["audio"][0].tolist() == [[6.0, 7.0], [8.0, 9.0], [0.0, 0.0]]
    assert batch.present["word"].tolist() == [[True, True, False], [False, True, True]]


def test_statistics_are_of_present_values_of_these_rows() -> None:
    mean, deviation = data.statistics(static_samples(), np.array([0, 1, 2]))["audio"]
    torch.testing.assert_close(mean, torch.tensor([2.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(deviation, torch.tensor([2.0, 2.0], dtype=torch.float64))


def test_statistics_of_sequences_are_over_all_their_steps() -> None:
    mean, _ = data.statistics(sequence_samples(), np.array([1]))["audio"]
    assert mean.tolist() == [7.0, 8.0]


def test_an_observed_row_counts_its_scalars() -> None:
    assert data.observed_values_per_row(static_samples()) == pytest.approx((4 * 2 + 5) / 5)


def test_data_of_another_kind_is_refused() -> None:
    with pytest.raises(UnusableData, match="the dataset is static, expected sequence"):
        data.check(static_samples(), complete(MMVRNNOptions(), modalities()))


def test_every_modality_that_does_not_fit_is_named() -> None:
    wrong = [
        ModalityConfig(name="audio", shape=(3,), likelihood="gaussian"),
        ModalityConfig(name="x", likelihood="gaussian"),
    ]
    with pytest.raises(UnusableData, match=r"'audio' has shape \(2,\).*'x' is missing"):
        data.check(static_samples(), complete(MMVAEOptions(), wrong))


def test_a_row_with_nothing_is_refused() -> None:
    samples = static_samples()
    samples.present["word"][1] = False
    with pytest.raises(UnusableData, match="the first is row 1"):
        data.check(samples, complete(MMVAEOptions(), modalities()))


def test_a_model_of_fewer_modalities_reads_only_those() -> None:
    config = complete(MMVAEOptions(), modalities()[:1])
    batch = data.batch_of(data.select(static_samples(), config), np.arange(3))
    assert set(batch.values) == {"audio"}
    check(batch, config.modalities, "static")
