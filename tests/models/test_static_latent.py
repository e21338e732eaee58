"""The code of a whole sequence: where it counts, what it reaches, and what it does not go with."""

import pytest
import torch
from pydantic import ValidationError

from models import gaussian
from models.gaussian import Gaussian
from models.generation import forecast
from models.mmvrnn import MMVRNN
from models.rollout import initial_state
from tests.models.small import MODALITIES, randomly_present, sequence_batch, sequence_config, sequence_model

STEP, STATIC = 4, 3
NAMES = [modality.name for modality in MODALITIES]


@pytest.fixture
def model() -> MMVRNN:
    return sequence_model(inference="smooth", static_latent_features=STATIC)


def _log_density(value: torch.Tensor, of: Gaussian) -> torch.Tensor:
    return torch.distributions.Normal(*of).log_prob(value)


def test_its_divergence_counts_once_at_the_first_step(model: MMVRNN) -> None:
    batch = randomly_present(sequence_batch())
    posterior = model.evidence(batch).static
    assert posterior is not None
    kl = model.terms(batch, batch, torch.randn(3, 5, STEP + STATIC)).kl
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(*posterior), prior)
    torch.testing.assert_close(kl[:, 0, STEP:], expected, rtol=1e-4, atol=1e-5)
    assert not kl[:, 1:, STEP:].any()


def test_a_particle_weighs_both_codes(model: MMVRNN) -> None:
    batch = sequence_batch((5, 5, 5))
    noise = torch.randn(1, 3, 5, STEP + STATIC)
    found = model.particles(batch, batch, noise).log_ratio[0]
    trajectory = model.infer(model.evidence(batch), noise[0])
    assert trajectory.static is not None
    q, code = trajectory.static
    of_steps = _log_density(trajectory.codes, model.priors(trajectory)) - _log_density(
        trajectory.codes, trajectory.posterior
    )
    of_all = _log_density(code, gaussian.standard(code)) - _log_density(code, q)
    torch.testing.assert_close(found, of_steps.sum(dim=(1, 2)) + of_all.sum(dim=1), rtol=1e-4, atol=1e-4)


def test_codes_that_leave_have_it_behind_every_step(model: MMVRNN) -> None:
    batch = sequence_batch((5, 3, 4))
    mean, deviation = model.encode(batch)
    posterior = model.evidence(batch).static
    assert posterior is not None
    for found, expected in ((mean, posterior.mean), (deviation, posterior.standard_deviation)):
        assert found.shape == (3, 5, STEP + STATIC)
        torch.testing.assert_close(found[:, :, STEP:], expected.unsqueeze(1).expand(-1, 5, -1))


def test_a_forecast_keeps_it(model: MMVRNN) -> None:
    batch = sequence_batch((5, 3, 4))
    _, last = model.decode_from(batch, [], None, None)
    assert last.shape == (3, model.recurrence.state_features + STATIC)
    other = last.clone()
    other[:, -STATIC:] += 1
    before, after = (forecast(model, state, 2, NAMES, 0, 0, ())["audio"]["mean"] for state in (last, other))
    assert (before[:, 0] != after[:, 0]).any()


def test_a_sequence_drawn_from_the_prior_begins_with_it(model: MMVRNN) -> None:
    noise = torch.randn(2, 6, STEP + STATIC)
    state = initial_state(model, noise)
    assert model.static is not None
    torch.testing.assert_close(state[:, -STATIC:], noise[:, 0, STEP:])
    torch.testing.assert_close(state[:, :-STATIC], model.static.initial_state(noise[:, 0, STEP:]))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"inference": "filter"}, "inference filter, which has not seen the whole sequence"),
        ({"inference": "smooth", "posterior": "product_of_experts"}, "expected posterior concatenation"),
    ],
)
def test_it_is_refused_where_it_cannot_be(options: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        sequence_config(static_latent_features=STATIC, **options)
