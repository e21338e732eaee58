"""Joint draws of what is missing in sequences: values of their kind, in pieces, and of the future."""

import numpy as np
import pytest
import torch

from models.config import ModalityConfig, SequenceFlowConfig
from models.predictor import Predictor
from tests.models.small import MODALITIES, sequence_model

EVERY = (*MODALITIES, ModalityConfig(name="calls", shape=(2,), likelihood="poisson"))
NAMES = [modality.name for modality in EVERY]
ROWS, STEPS, DRAWS = 3, 7, 5
AUDIO = np.random.default_rng(0).normal(size=(ROWS, STEPS, 3)).astype(np.float32)
PRESENT = np.ones((ROWS, STEPS), bool)
PRESENT[:, 2:4] = False
LENGTHS = np.array([7, 5, 6])
PRESENT[1, 5:] = PRESENT[2, 6:] = False
GIVEN = {"audio": AUDIO * PRESENT[..., None]}, {"audio": PRESENT}, LENGTHS
SMOOTH = {"inference": "smooth", "static_latent_features": 2}


def _predictor(**options: object) -> Predictor:
    """A model with a conditional part, both with random weights."""
    model = sequence_model(EVERY, **options)
    torch.manual_seed(1)
    model.add_conditional(SequenceFlowConfig(hidden_features=8, layers=2, code_features=3))
    assert model.conditional is not None
    torch.nn.init.normal_(model.conditional.output.weight, std=0.3)  # untrained, it is 0
    return Predictor(model.eval())


@pytest.mark.parametrize("options", [{}, SMOOTH])
def test_draws_are_values_of_their_kind_and_given_steps_stay(options: dict[str, object]) -> None:
    found = _predictor(**options).impute(*GIVEN, draws=DRAWS)["completed"]
    for modality in EVERY:
        drawn = found[modality.name]["draws"]
        assert drawn.shape == (ROWS, DRAWS, STEPS, *modality.shape)
        assert drawn.dtype == modality.dtype
        if modality.categories is not None:
            assert set(np.unique(drawn)) <= set(range(modality.categories))
        else:
            assert modality.support.contains(drawn).all()
    audio = found["audio"]
    for draw in (audio["value"], *audio["draws"].swapaxes(0, 1)):
        np.testing.assert_array_equal(draw[PRESENT], AUDIO[PRESENT])
    assert (audio["draws"][:, :, 2:4].std(axis=1) > 0).all()
    assert (audio["lower"] <= audio["upper"]).all()


@pytest.mark.parametrize("options", [{}, SMOOTH])
def test_a_row_is_drawn_as_if_alone_and_without_padding(options: dict[str, object]) -> None:
    predictor = _predictor(**options)
    together = predictor.impute(*GIVEN, draws=DRAWS, seed=3)["completed"]
    values, present = {"audio": GIVEN[0]["audio"][1:2, :5]}, {"audio": PRESENT[1:2, :5]}
    alone = predictor.impute(values, present, draws=DRAWS, seed=3, rows=np.array([1]))["completed"]
    for name in NAMES:
        np.testing.assert_allclose(together[name]["draws"][1, :, :5], alone[name]["draws"][0], rtol=1e-4, atol=1e-5)


def test_a_piece_is_completed_from_the_state_of_the_pieces_before_it() -> None:
    predictor = _predictor()
    whole = {"audio": AUDIO}, {"audio": np.ones((ROWS, STEPS), bool)}
    whole[1]["audio"][:, 5] = False
    pieces = [({"audio": AUDIO[:, part]}, {"audio": whole[1]["audio"][:, part]}) for part in (slice(4), slice(4, 7))]
    state = predictor.encode(*pieces[0]).state
    without = sequence_model(EVERY)
    expected = Predictor(without).impute(*whole)["completed"]
    found = Predictor(without).impute(*pieces[1], state=state)["completed"]
    for name in NAMES:
        np.testing.assert_allclose(found[name]["value"], expected[name]["value"][:, 4:], rtol=1e-4, atol=1e-5)
    after, new = (predictor.impute(*pieces[1], draws=DRAWS, state=one)["completed"] for one in (state, None))
    assert after["audio"]["draws"].shape == (ROWS, DRAWS, 3, 3)
    assert not np.allclose(after["audio"]["draws"][:, :, 1], new["audio"]["draws"][:, :, 1])


@pytest.mark.parametrize("options", [{}, SMOOTH])
def test_a_forecast_is_the_completion_of_steps_that_are_missing_at_the_end(options: dict[str, object]) -> None:
    predictor, horizon = _predictor(**options), 4
    forecast = predictor.forecast(*GIVEN, horizon, NAMES, n_samples=40, seed=2, quantiles=[0.25, 0.5])
    for row, length in enumerate(LENGTHS):
        values = {"audio": np.pad(GIVEN[0]["audio"][row : row + 1, :length], ((0, 0), (0, horizon), (0, 0)))}
        present = {"audio": np.pad(PRESENT[row : row + 1, :length], ((0, 0), (0, horizon)))}
        # the rows of a forecast share their random numbers: those of the first row of a request
        completed = predictor.impute(values, present, draws=40, seed=2)["completed"]
        for name in ("audio", "calls"):
            drawn = completed[name]["draws"][0, :, length:]
            np.testing.assert_allclose(
                forecast[name]["quantiles"][row],
                np.moveaxis(np.quantile(drawn, [0.25, 0.5], axis=0), 0, -1),
                rtol=1e-3,
                atol=1e-4,
            )
        np.testing.assert_allclose(
            forecast["word"]["probabilities"][row], completed["word"]["probabilities"][0, length:], rtol=1e-3, atol=1e-5
        )


def test_a_forecast_continues_from_a_state() -> None:
    predictor = _predictor()
    given = {"audio": np.ones((ROWS, 3), bool)}
    state = predictor.encode({"audio": AUDIO[:, :3]}, given).state
    found = predictor.forecast(
        {"audio": AUDIO[:, 3:]}, {"audio": np.ones((ROWS, 4), bool)}, None, 2, NAMES, state=state
    )
    assert found["audio"]["quantiles"].shape == (ROWS, 2, 3, 3)
