"""The NumPy face of a model: any subset, mixed rows, seeds."""

from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models.batch import BatchError
from models.io import checkpoint
from models.multimodal import Multimodal
from models.predictor import Predictor
from tests.models.small import MODALITIES, sequence_model, static_model

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


def test_values_at_absent_places_do_not_matter() -> None:
    predictor = Predictor(static_model())
    some = np.array([True, False, True, False])
    broken = np.where(some[:, None], AUDIO, np.nan)
    first = predictor.encode({"audio": AUDIO, "word": WORD}, {"audio": some, "word": ALL})
    second = predictor.encode({"audio": broken, "word": WORD}, {"audio": some, "word": ALL})
    np.testing.assert_array_equal(first.mean, second.mean)


def test_a_seed_gives_the_same_answer_in_any_batch() -> None:
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


NAMES = [modality.name for modality in MODALITIES]


def _given(model: Multimodal) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray | None]:
    """Audio and words of some places, and no face, for a model of either kind."""
    random = np.random.default_rng(1)
    leading = (4,) if model.config.kind == "static" else (4, 5)
    values = {"audio": random.normal(size=(*leading, 3)).astype(np.float32), "word": random.integers(0, 4, leading)}
    present = {name: random.random(leading) < 0.6 for name in values}
    if len(leading) == 1:
        return values, present, None
    lengths = np.array([5, 3, 4, 1])
    inside = np.arange(5) < lengths[:, None]
    return values, {name: mask & inside for name, mask in present.items()}, lengths


BOTH = pytest.mark.parametrize("model", [static_model(), static_model(expert="mixture"), sequence_model()])


@BOTH
def test_a_score_is_the_sum_of_its_parts_and_those_of_the_bound(model: Multimodal) -> None:
    values, present, lengths = _given(model)
    score = Predictor(model).score(values, present, lengths)
    np.testing.assert_allclose(score.bound, sum(score.log_likelihood.values()) - score.kl, rtol=1e-6)
    batch = Predictor(model)._batch(values, present, lengths)
    terms = model.terms(batch, batch, None)
    np.testing.assert_allclose(score.kl, terms.kl.sum(dim=-1).detach(), rtol=1e-5, atol=1e-6)
    assert score.log_likelihood.keys() == {"audio", "word"}
    for name, value in score.log_likelihood.items():
        assert value.shape == present[name].shape
        np.testing.assert_allclose(value, terms.log_likelihood[name].detach(), rtol=1e-5)
        assert (value[~present[name]] == 0).all()


@BOTH
def test_a_drawn_score_is_the_mean_of_the_bound_over_draws_and_each_row_s_own(model: Multimodal) -> None:
    values, present, lengths = _given(model)
    predictor = Predictor(model)
    score = predictor.score(values, present, lengths, n_samples=3, seed=4)
    batch = predictor._batch(values, present, lengths)
    noise = predictor._noise(model.latent_shape(batch), 3, 4)
    bounds = []
    for one in noise:
        terms = model.terms(batch, batch, one.expand(4, *one.shape[1:]))
        bounds.append(torch.stack(list(terms.log_likelihood.values())).sum(dim=0) - terms.kl.sum(dim=-1))
    np.testing.assert_allclose(score.bound, torch.stack(bounds).mean(dim=0).detach(), rtol=1e-5, atol=1e-5)
    alone = predictor.score(
        {name: value[2:3] for name, value in values.items()},
        {name: mask[2:3] for name, mask in present.items()},
        None if lengths is None else lengths[2:3],
        n_samples=3,
        seed=4,
    )
    np.testing.assert_allclose(alone.bound[0], score.bound[2], rtol=1e-5, atol=1e-5)
