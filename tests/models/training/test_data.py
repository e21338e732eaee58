"""From a stored dataset to batches and statistics."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.architectures import build
from models.batch import check
from models.config import (
    EarlyStopping,
    MMVAEConfig,
    MMVAEOptions,
    MMVRNNConfig,
    MMVRNNOptions,
    ModalityConfig,
    TrainingConfig,
    complete,
    default_likelihood,
)
from models.training import checks, data
from models.training.checks import UnusableData
from models.training.dataset import Dataset, Modality
from models.training.split import split

MODALITIES = (Modality("audio", (2,)), Modality("word", (), categories=3))


def static_samples(rows: int = 5) -> Dataset:
    """The audio of row 1 is absent."""
    values = {"audio": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), "word": np.arange(rows) % 3}
    present = {"audio": np.arange(rows) != 1, "word": np.ones(rows, dtype=bool)}
    return Dataset("static", MODALITIES, rows, values, present)


def sequence_samples() -> Dataset:
    """Two sequences of 3 and 2 steps; the word of the first step is absent."""
    values = {"audio": np.arange(10, dtype=np.float32).reshape(5, 2), "word": np.array([0, 1, 2, 0, 1])}
    present = {"audio": np.ones(5, dtype=bool), "word": np.array([False, True, True, True, True])}
    return Dataset("sequence", MODALITIES, 2, values, present, np.array([0, 3, 5]))


def modalities() -> list[ModalityConfig]:
    """The dataset's modalities as a model takes them."""
    return [
        ModalityConfig(name="audio", shape=(2,), likelihood=default_likelihood("float32", None)),
        ModalityConfig(name="word", categories=3, likelihood=default_likelihood("int64", 3)),
    ]


def config(kind: str = "static") -> MMVAEConfig | MMVRNNConfig:
    return complete(MMVAEOptions() if kind == "static" else MMVRNNOptions(), modalities())


ALL_ROWS = TrainingConfig(batch_size=1, validation_fraction=0)


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
    mean, deviation = data.statistics(static_samples(), build(config()), np.array([0, 1, 2]))["audio"]
    torch.testing.assert_close(mean, torch.tensor([2.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(deviation, torch.tensor([2.0, 2.0], dtype=torch.float64))


def test_statistics_of_sequences_are_over_all_their_steps() -> None:
    mean, _ = data.statistics(sequence_samples(), build(config("sequence")), np.array([1]))["audio"]
    assert mean.tolist() == [7.0, 8.0]


def test_statistics_of_counts_are_of_their_logarithms() -> None:
    counts = ModalityConfig(name="audio", shape=(2,), likelihood="poisson")
    mean, _ = data.statistics(static_samples(), build(complete(MMVAEOptions(), [counts])), np.array([0, 2]))["audio"]
    torch.testing.assert_close(mean, torch.tensor([[0.0, 1.0], [4.0, 5.0]], dtype=torch.float64).log1p().mean(dim=0))


def test_an_observed_row_counts_its_scalars() -> None:
    assert data.observed_values_per_row(static_samples()) == pytest.approx((4 * 2 + 5) / 5)


def test_data_of_another_kind_is_refused() -> None:
    with pytest.raises(UnusableData, match="the dataset is static, expected sequence"):
        checks.check(static_samples(), config("sequence"), ALL_ROWS)


def test_every_modality_that_does_not_fit_is_named() -> None:
    wrong = [
        ModalityConfig(name="audio", shape=(3,), likelihood="gaussian"),
        ModalityConfig(name="x", likelihood="gaussian"),
    ]
    with pytest.raises(UnusableData, match=r"'audio' has shape \(2,\).*'x' is missing"):
        checks.check(static_samples(), complete(MMVAEOptions(), wrong), ALL_ROWS)


def test_a_row_without_modalities_is_refused() -> None:
    samples = static_samples()
    samples.present["word"][1] = False
    with pytest.raises(UnusableData, match="the first is row 1"):
        checks.check(samples, config(), ALL_ROWS)


def test_a_model_of_fewer_modalities_reads_only_those() -> None:
    config = complete(MMVAEOptions(), modalities()[:1])
    batch = data.batch_of(data.select(static_samples(), config), np.arange(3))
    assert set(batch.values) == {"audio"}
    check(batch, config.modalities, "static")


def test_every_fault_is_listed_at_once() -> None:
    samples = sequence_samples()
    samples.values["audio"][4, 1] = 0.5
    samples.values["word"][3] = 3
    counted = [ModalityConfig(name="audio", shape=(2,), likelihood="poisson"), modalities()[1]]
    empty = Dataset("sequence", MODALITIES, 3, samples.values, samples.present, np.array([0, 3, 3, 5]))
    training = TrainingConfig(
        batch_size=4,
        validation_rows=(7,),
        modality_weights={"face": 1.0},
        early_stopping=EarlyStopping(metric="accuracy"),
    )
    with pytest.raises(UnusableData) as caught:
        checks.check(empty, complete(MMVRNNOptions(), counted), training)
    for fault in (
        "training.modality_weights.face: there is no modality 'face'",
        "training.validation_rows: has row 7, the dataset has rows 0 to 2",
        "training.early_stopping.metric: there is no metric 'accuracy'",
        "training.batch_size: the dataset has 3 rows, 3 of them for training",
        "'audio' is poisson and has 0.5 at row 2, step 1, expected whole numbers from 0 on",
        "'word' is categorical and has 3 at row 2, step 0, expected whole numbers from 0 to 2",
        "1 sequences have no time steps, expected at least one; the first is row 1",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(("likelihood", "value"), [("bernoulli", 1.5), ("negative_binomial", -1.0)])
def test_a_likelihood_that_does_not_support_the_data_is_refused(likelihood: str, value: float) -> None:
    samples = static_samples()
    samples.values["audio"][:] = 1.0
    samples.values["audio"][1, 0] = value  # absent there, so nothing is wrong yet
    wanted = complete(
        MMVAEOptions(), [ModalityConfig(name="audio", shape=(2,), likelihood=likelihood), modalities()[1]]
    )
    checks.check(samples, wanted, ALL_ROWS)
    samples.values["audio"][3, 1] = value
    with pytest.raises(UnusableData, match=f"{likelihood} and has {value} at row 3"):
        checks.check(samples, wanted, ALL_ROWS)


def test_a_target_that_no_sample_has_is_refused() -> None:
    samples = static_samples()
    samples.present["word"][:] = False
    with pytest.raises(UnusableData, match="'word' is absent from every row"):
        checks.check(samples, config(), ALL_ROWS)


def test_the_rows_held_out_are_those_named_or_a_fraction() -> None:
    train, held_out = split(static_samples(), TrainingConfig(validation_rows=(3, 1, 3)), seed=0)
    assert (train.tolist(), held_out.tolist()) == ([0, 2, 4], [1, 3])
    train, held_out = split(static_samples(100), TrainingConfig(validation_fraction=0.2), seed=0)
    assert (len(train), len(held_out)) == (80, 20)
    assert sorted([*train, *held_out]) == list(range(100))


@pytest.mark.parametrize(("rows", "fraction", "held_out"), [(2, 0.1, 1), (20, 0.01, 1), (20, 0.0, 0), (30, 0.05, 2)])
def test_a_fraction_above_0_holds_out_a_row_at_least(rows: int, fraction: float, held_out: int) -> None:
    training = TrainingConfig(validation_fraction=fraction)
    train, left_out = split(static_samples(rows), training, seed=0)
    assert (len(train), len(left_out)) == (rows - held_out, held_out)


def test_a_resumed_training_keeps_its_held_out_rows() -> None:
    training = TrainingConfig(validation_fraction=0.01)
    train, held_out = split(static_samples(20), training, seed=0, held_out_before=0)
    assert (len(train), len(held_out)) == (20, 0)


def test_the_rows_held_out_are_the_validation_rows_of_the_dataset() -> None:
    splits = np.array([0, 1, 2, 0, 1], dtype=np.uint8)
    train, held_out = split(replace(static_samples(), splits=splits), TrainingConfig(), seed=0)
    assert (train.tolist(), held_out.tolist()) == ([0, 3], [1, 4])
    named = TrainingConfig(validation_rows=(0,))
    train, held_out = split(replace(static_samples(), splits=splits), named, seed=0)
    assert (train.tolist(), held_out.tolist()) == ([1, 3, 4], [0])
    none = TrainingConfig(validation_fraction=0)
    train, held_out = split(replace(static_samples(), splits=splits), none, seed=0)
    assert (train.tolist(), held_out.tolist()) == ([0, 3], [])


def test_rows_for_tests_are_never_trained_on() -> None:
    splits = np.repeat([0, 2], 50).astype(np.uint8)
    samples = replace(static_samples(100), splits=splits)
    train, held_out = split(samples, TrainingConfig(validation_fraction=0.2), seed=0)
    assert (len(train), len(held_out)) == (40, 10)
    assert sorted([*train, *held_out]) == list(range(50))


def test_a_dataset_without_rows_to_train_on_is_refused() -> None:
    samples = replace(static_samples(), splits=np.full(5, 2, dtype=np.uint8))
    with pytest.raises(UnusableData, match="no row of the dataset is for training"):
        checks.check(samples, config(), ALL_ROWS)


def test_rows_with_all_have_every_modality_somewhere() -> None:
    assert data.rows_with_all(static_samples(), ["audio", "word"]).tolist() == [True, False, True, True, True]
    assert data.rows_with_all(sequence_samples(), ["audio", "word"]).tolist() == [True, True]
