"""Every consumer of random numbers, over the extreme words of the generator: all zeros, all ones and their neighbours.

The words here come with a probability of 2^-32 each, so that a test with real draws meets them once in years, and a
training with thousands of draws a step within hours.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import generation, likelihoods
from models.batch import Batch
from models.config import (
    ELBO,
    IWAE,
    BurstDeletion,
    DeletionMix,
    IndependentDropout,
    ModalityConfig,
    NumberDropout,
    SubsampledELBO,
    SubsetDropout,
    TrainingConfig,
)
from models.ops.philox import Draws
from models.predictor import Predictor
from models.training import objective
from models.training.deletion_mix import deletion_mix
from models.training.masking import burst_deletion, modality_dropout, random_subset
from tests.models.small import sequence_batch, sequence_model, static_batch, static_model

ONES = 2**32 - 1
# Around the powers of two where float32 rounds a word up, and around the middle, where positions change.
EXTREME = sorted(
    {0, 1, 2, 2**31 - 1, 2**31, 2**31 + 1}
    | {ONES - distance for distance in (0, 1, 2, 126, 127, 128, 129, 254, 255, 256, 257)}
)
# Several words, so that the numbers of a row are not all alike.
words = st.lists(st.sampled_from(EXTREME), min_size=1, max_size=7)
many = settings(max_examples=60, deadline=None)

FAMILIES = ("nothing", "steps", "bursts", "future", "past", "windows", "modalities")
NOTHING = dict.fromkeys((*FAMILIES, "more_steps"), 0.0)


@contextmanager
def _drawn(pattern: list[int]) -> Iterator[Draws]:
    """Draws of which every row repeats this pattern of words."""

    def repeated(self: Draws, rows: torch.Tensor, count: int) -> torch.Tensor:
        blocks = -(-count // 4)
        return torch.from_numpy(np.tile(np.resize(np.array(pattern, np.int64), 4 * blocks), (len(rows), 1)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draws, "_words", repeated)
        yield Draws(0, 0, 0)


def _sequences(names: int = 3, rows: int = 2, steps: int = 5) -> Batch:
    valid = torch.ones(rows, steps, dtype=torch.bool)
    return Batch({}, {f"m{index}": valid for index in range(names)}, torch.full((rows,), steps))


def _samples(names: int = 3, rows: int = 2) -> Batch:
    return Batch({}, {f"m{index}": torch.ones(rows, dtype=torch.bool) for index in range(names)})


def _stacked(batch: Batch) -> torch.Tensor:
    return torch.stack([batch.present[name] for name in sorted(batch.present)], dim=1)


@given(words)
@many
def test_uniform_numbers_and_their_indices_stay_in_range_in_float32(pattern: list[int]) -> None:
    with _drawn(pattern) as draws:
        uniform = draws.uniform(np.arange(2), 8)
    assert (uniform >= 0).all()
    assert (uniform < 1).all()
    assert (uniform.float() < 1).all()
    for count in (1, 2, 3, 7, 100, 2**20, 2**24):
        for chance in (uniform, uniform.float()):
            assert (chance * count).long().max() <= count - 1


def test_only_numbers_that_float32_would_round_differ_from_the_word_itself() -> None:
    for word in EXTREME:
        with _drawn([word]) as draws:
            uniform = draws.uniform(np.arange(1), 1).item()
        assert uniform == min(word * 2.0**-32, 1 - 2.0**-24)
        assert (uniform == word * 2.0**-32) == (word <= 2**32 - 256)


@given(words)
@many
def test_normal_numbers_are_finite(pattern: list[int]) -> None:
    with _drawn(pattern) as draws:
        normal = draws.normal(np.arange(2), 5, 3)
    assert normal.isfinite().all()
    assert normal.abs().max() < 6.9


@pytest.mark.parametrize("family", FAMILIES)
@given(pattern=words)
@settings(max_examples=20, deadline=None)
def test_a_mix_of_one_family_always_takes_that_family(family: str, pattern: list[int]) -> None:
    batch = _sequences()
    with _drawn(pattern) as draws:
        left = deletion_mix(batch, DeletionMix.model_validate({**NOTHING, family: 0.3}), draws, np.arange(2))
    kept = _stacked(left)  # (B, M, T)
    hidden = (~kept).sum(dim=2)
    whole = kept.all(dim=2)
    match family:
        case "nothing":
            assert kept.all()
        case "bursts":
            assert (hidden <= 4).all()  # 60 % of 5 steps, from anywhere
        case "future":
            assert kept[..., 0].all()
        case "past":
            assert kept[..., -1].all()
        case "windows":
            assert whole.any(dim=1).all()
        case "modalities":
            assert (whole | ~kept.any(dim=2)).all()
            assert whole.any(dim=1).all()
            assert not whole.all(dim=1).any()


@given(pattern=words, weights=st.lists(st.sampled_from([0.0, 0.1, 0.2, 1.0, 3.7]), min_size=7, max_size=7))
@many
def test_every_mix_of_deletions_answers(pattern: list[int], weights: list[float]) -> None:
    if not sum(weights):
        return
    config = DeletionMix.model_validate(dict(zip(FAMILIES, weights, strict=True)) | {"more_steps": 1.0})
    with _drawn(pattern) as draws:
        assert _stacked(deletion_mix(_sequences(7), config, draws, np.arange(2))).shape == (2, 7, 5)


@given(pattern=words, names=st.integers(1, 6))
@many
def test_modality_dropout_keeps_and_hides_at_least_one_modality(pattern: list[int], names: int) -> None:
    batch = _samples(names)
    every = {f"m{index}": 1.0 for index in range(names)}
    for config in (
        SubsetDropout(probability=1.0),
        NumberDropout(probability=1.0),
        IndependentDropout(probabilities=every),
    ):
        with _drawn(pattern) as draws:
            kept = _stacked(modality_dropout(batch, config, draws, np.arange(2))).sum(dim=1)
        assert (kept >= 1).all()
        assert (kept <= max(1, names - 1)).all()


@given(pattern=words)
@many
def test_a_burst_lies_within_its_sequence_and_within_its_length(pattern: list[int]) -> None:
    config = BurstDeletion(probability=1.0, longest=0.4)
    with _drawn(pattern) as draws:
        hidden = (~_stacked(burst_deletion(_sequences(), config, draws, np.arange(2)))).sum(dim=2)
    assert (hidden >= 1).all()
    assert (hidden <= 2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("names", [1, 2, 7, 24, 25, 40])
@given(pattern=words)
@settings(max_examples=20, deadline=None)
def test_a_random_subset_is_proper_and_not_empty(names: int, dtype: torch.dtype, pattern: list[int]) -> None:
    with _drawn(pattern) as draws:
        chance = draws.uniform(np.arange(3), 1 + names).T.to(dtype)
    kept = random_subset(torch.ones(names, 3, dtype=torch.bool), chance[0], chance[1:]).sum(dim=0)
    assert (kept >= 1).all()
    assert (kept <= max(1, names - 1)).all()


@pytest.mark.parametrize("bound", [ELBO(), SubsampledELBO(subsets=2), IWAE(particles=2)], ids=lambda one: one.name)
@given(pattern=words)
@settings(max_examples=15, deadline=None)
def test_every_objective_of_both_models_is_finite(bound: Any, pattern: list[int]) -> None:
    for model, targets, more in (
        (static_model(), static_batch(3), {}),
        (sequence_model(), sequence_batch((4, 2)), {"burst_deletion": {}, "deletion_mix": {}}),
    ):
        training = TrainingConfig.model_validate({"objective": bound.model_dump(), **more})
        with _drawn(pattern) as draws:
            of_stream: Callable[[int], Draws] = lambda _, same=draws: same  # noqa: E731 one for all streams
            found = objective.negative_bound(model, targets, training, 1.0, of_stream, np.arange(targets.rows))
        assert found.loss.isfinite().all()


class _Constant:
    """A generator of numbers that all are the same."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray[Any, Any]:
        return np.full(shape, self._number, dtype)

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)


# The least and the largest that NumPy's generators give, as float64 and as float32, and what float32 rounds to 1.
NUMBERS = [0.0, 2.0**-53, 2.0**-24, 0.5, 1 - 2.0**-24, 1 - 2.0**-25, 1 - 2.0**-53]
MODALITIES = [
    ModalityConfig(name="number", shape=(2,), likelihood="gaussian"),
    ModalityConfig(name="outlier", shape=(2,), likelihood="laplace"),
    ModalityConfig(name="bit", shape=(2,), likelihood="bernoulli"),
    ModalityConfig(name="count", shape=(2,), likelihood="poisson"),
    ModalityConfig(name="spread", shape=(2,), likelihood="negative_binomial"),
    ModalityConfig(name="word", categories=5, likelihood="categorical"),
]


@pytest.mark.parametrize("number", NUMBERS)
def test_draws_of_a_model_are_finite_and_in_the_support(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.np.random, "default_rng", lambda seed: _Constant(number))
    of_samples = Predictor(static_model(MODALITIES)).sample(3)
    of_sequences = Predictor(sequence_model(MODALITIES)).sample(3, steps=2)
    for answers in (of_samples, of_sequences):
        for modality in MODALITIES:
            drawn = answers[modality.name]["value"]
            assert np.isfinite(drawn).all()
            if modality.likelihood == "categorical":
                assert ((drawn >= 0) & (drawn < 5)).all()
            elif modality.likelihood == "bernoulli":
                assert np.isin(drawn, (0, 1)).all()
            elif modality.likelihood in ("poisson", "negative_binomial"):
                assert ((drawn >= 0) & (drawn == np.floor(drawn))).all()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_category_of_probability_0_is_never_drawn(number: float) -> None:
    chance = torch.from_numpy(generation._inside(np.array([number])))
    assert 0 < chance.item() < 1
    word = likelihoods.build(ModalityConfig(name="word", categories=4, likelihood="categorical"))
    # of the first, or of the last, category the softmax is 0 exactly
    assert word.quantile(torch.tensor([[-200.0, 0.0, 0.3, 0.7]]), chance).item() >= 1
    assert word.quantile(torch.tensor([[0.0, 0.3, 0.7, -200.0]]), chance).item() <= 2
    bit = likelihoods.build(ModalityConfig(name="bit", shape=(1,), likelihood="bernoulli"))
    assert bit.quantile(torch.tensor([[200.0]]), chance.unsqueeze(0)).item() == 1
    assert bit.quantile(torch.tensor([[-200.0]]), chance.unsqueeze(0)).item() == 0


def test_a_rounding_error_does_not_draw_the_last_category() -> None:
    generator = torch.Generator().manual_seed(0)
    word = likelihoods.build(ModalityConfig(name="word", categories=1001, likelihood="categorical"))
    raw = torch.cat([torch.randn(500, 1000, generator=generator), torch.full((500, 1), -200.0)], dim=1)
    assert (raw.softmax(dim=-1).cumsum(dim=-1)[:, -1] < 1 - 2.0**-24).any()  # the sums that this is about
    assert (word.quantile(raw, torch.full((500,), 1 - 2.0**-24)) < 1000).all()
