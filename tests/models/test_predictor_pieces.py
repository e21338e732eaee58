"""A sequence that comes in pieces gets the answers it would get as a whole."""

from itertools import product

import numpy as np
import pytest

from models.batch import BatchError
from models.predictor import Predictor
from tests.models.small import JOINS, MODALITIES, sequence_model, static_model

COMBINATIONS = [
    {**join, "recurrence": recurrence, "recurrent_layers": layers}
    for join, recurrence, layers in product(JOINS, ["gru", "lstm"], [1, 2])
]
TARGETS = [modality.name for modality in MODALITIES]
RANDOM = np.random.default_rng(0)
AUDIO = RANDOM.normal(size=(3, 6, 3)).astype(np.float32)
WORD = RANDOM.integers(0, 4, size=(3, 6))
LENGTHS = np.array([6, 4, 5])
VALID = np.arange(6) < LENGTHS[:, None]
PRESENT = {"audio": VALID & (RANDOM.random((3, 6)) < 0.7), "word": VALID & (RANDOM.random((3, 6)) < 0.7)}
# each row's first piece ends at its own step
CUTS = np.array([2, 1, 4])

Piece = tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]


def _piece(begin: np.ndarray, end: np.ndarray) -> Piece:
    """Steps begin to end of every row, padded to the longest."""
    lengths = end - begin
    inside = np.arange(lengths.max()) < lengths[:, None]
    steps = np.minimum(begin[:, None] + np.arange(lengths.max()), 5)
    rows = np.arange(3)[:, None]
    values = {"audio": AUDIO[rows, steps], "word": WORD[rows, steps]}
    return values, {name: mask[rows, steps] & inside for name, mask in PRESENT.items()}, lengths


WHOLE = _piece(np.zeros(3, dtype=int), LENGTHS)
PIECES = [_piece(np.zeros(3, dtype=int), CUTS), _piece(CUTS, LENGTHS)]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All valid steps, row after row."""
    return np.concatenate([np.concatenate([first[r, : CUTS[r]], second[r, : (LENGTHS - CUTS)[r]]]) for r in range(3)])


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_pieces_of_ragged_sequences_are_encoded_and_reconstructed_as_the_whole(options: dict[str, object]) -> None:
    predictor = Predictor(sequence_model(**options))
    whole = predictor.encode(*WHOLE)
    first = predictor.encode(*PIECES[0])
    second = predictor.encode(*PIECES[1], first.state)
    np.testing.assert_allclose(_joined(first.mean, second.mean), whole.mean[VALID], atol=1e-5)
    np.testing.assert_allclose(
        _joined(first.standard_deviation, second.standard_deviation), whole.standard_deviation[VALID], atol=1e-5
    )
    assert second.state is not None
    np.testing.assert_allclose(second.state, whole.state, atol=1e-5)
    expected = predictor.reconstruct(*WHOLE, TARGETS)
    before, after = (
        predictor.reconstruct(*PIECES[0], TARGETS),
        predictor.reconstruct(*PIECES[1], TARGETS, state=first.state),
    )
    for name, key in [("audio", "mean"), ("face", "probability"), ("word", "probabilities")]:
        np.testing.assert_allclose(_joined(before[name][key], after[name][key]), expected[name][key][VALID], atol=1e-5)


@pytest.mark.parametrize("n_samples", [0, 7])
def test_a_forecast_continues_from_the_last_piece(n_samples: int) -> None:
    predictor = Predictor(sequence_model(recurrence="lstm", recurrent_layers=2))
    whole = predictor.forecast(*WHOLE, 4, ["audio"], n_samples)
    state = predictor.encode(*PIECES[0]).state
    pieces = predictor.forecast(*PIECES[1], 4, ["audio"], n_samples, state=state)
    np.testing.assert_allclose(pieces["audio"]["mean"], whole["audio"]["mean"], atol=1e-5)


def test_a_state_that_does_not_fit_is_refused() -> None:
    predictor = Predictor(sequence_model(recurrence="lstm"))
    with pytest.raises(BatchError, match=r"state has shape \(3, 7\), expected \(3, 14\)"):
        predictor.encode(*WHOLE, np.zeros((3, 7)))


def test_a_smoothing_model_returns_no_state_and_accepts_none() -> None:
    predictor = Predictor(sequence_model(inference="smooth"))
    assert predictor.encode(*WHOLE).state is None
    with pytest.raises(BatchError, match="sees each sequence as a whole"):
        predictor.reconstruct(*WHOLE, ["audio"], state=np.zeros((3, 7)))


def test_samples_have_no_state() -> None:
    given = {"audio": AUDIO[:, 0]}, {"audio": np.ones(3, dtype=bool)}
    assert Predictor(static_model()).encode(*given).state is None
