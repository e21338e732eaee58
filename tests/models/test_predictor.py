"""The NumPy face of a model: any subset, mixed rows, seeds."""

from pathlib import Path

import numpy as np
import pytest

import models
from models import checkpoint
from models.batch import BatchError
from models.predictor import Predictor
from tests.models.small import sequence_model, static_model

AUDIO = np.random.default_rng(0).normal(size=(4, 3))
WORD = np.array([0, 1, 2, 3])
ALL = np.ones(4, dtype=bool)


def test_rows_with_different_subsets_answer_as_if_alone() -> None:
    predictor = Predictor(static_model())
    some = np.array([True, False, True, False])
    mixed = predictor.encode({"audio": AUDIO, "word": WORD}, {"audio": some, "word": ~some})
    audio_alone = predictor.encode({"audio": AUDIO}, {"audio": ALL})
    word_alone = predictor.encode({"word": WORD}, {"word": ALL})
    np.testing.assert_allclose(mixed.mean[some], audio_alone.mean[some], atol=1e-6)
    np.testing.assert_allclose(mixed.mean[~some], word_alone.mean[~some], atol=1e-6)


def test_what_stands_in_absent_places_does_not_matter() -> None:
    predictor = Predictor(static_model())
    some = np.array([True, False, True, False])
    broken = np.where(some[:, None], AUDIO, np.nan)
    first = predictor.encode({"audio": AUDIO, "word": WORD}, {"audio": some, "word": ALL})
    second = predictor.encode({"audio": broken, "word": WORD}, {"audio": some, "word": ALL})
    np.testing.assert_array_equal(first.mean, second.mean)


def test_a_seed_gives_the_same_answer_whatever_else_is_in_the_batch() -> None:
    predictor = Predictor(static_model())

    def ask(rows: slice, seed: int) -> np.ndarray:
        given = {"word": WORD[rows]}
        answer = predictor.reconstruct(given, {"word": ALL[rows]}, None, ["audio"], n_samples=5, seed=seed)
        return answer["audio"]["mean"]

    np.testing.assert_allclose(ask(slice(None), 7)[2], ask(slice(2, 3), 7)[0], atol=1e-6)
    assert not np.allclose(ask(slice(None), 7), ask(slice(None), 8))


def test_sequences_may_be_ragged_and_lack_steps() -> None:
    predictor = Predictor(sequence_model())
    values = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    present = np.array([[True, True, False, True, True], [True, True, True, False, False]])
    lengths = np.array([5, 3])
    answer = predictor.reconstruct({"audio": values}, {"audio": present}, lengths, ["word"])
    alone = predictor.reconstruct({"audio": values[1:, :3]}, {"audio": present[1:, :3]}, lengths[1:], ["word"])
    assert answer["word"]["category"].shape == (2, 5)
    np.testing.assert_allclose(answer["word"]["probabilities"][1, :3], alone["word"]["probabilities"][0], atol=1e-6)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(BatchError, match="smell"):
        Predictor(static_model()).reconstruct({"word": WORD}, {"word": ALL}, None, ["smell"])


def test_models_load_is_the_way_in(tmp_path: Path) -> None:
    model = static_model()
    checkpoint.save(model, tmp_path / "m", {})
    predictor = models.load(tmp_path / "m")
    assert predictor.config == model.config
    assert predictor.encode({"word": WORD}, {"word": ALL}).mean.shape == (4, 4)
