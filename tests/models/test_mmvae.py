"""The multimodal VAE: presence, order, batches, and the evidence bound's closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from models.batch import Batch
from models.gaussian import Gaussian
from tests.models.small import MODALITIES, only, rows_of, static_batch, static_model, without

NAMES = [modality.name for modality in MODALITIES]
subsets = st.sets(st.sampled_from(NAMES), min_size=1)


@settings(deadline=None)
@given(hidden=subsets)
def test_hiding_modalities_equals_not_having_them(hidden: set[str]) -> None:
    model, batch = static_model(), static_batch()
    shown = [name for name in NAMES if name not in hidden]
    masked = model.encode(only(batch, *shown))
    if shown:
        torch.testing.assert_close(masked, model.encode(without(batch, *hidden)))
    else:
        torch.testing.assert_close(masked, Gaussian(torch.zeros(6, 4), torch.ones(6, 4)))


def test_a_row_without_modalities_gets_the_prior_also_in_a_mixed_batch() -> None:
    model, batch = static_model(), static_batch()
    present = {name: mask.clone() for name, mask in batch.present.items()}
    for mask in present.values():
        mask[2] = False
    latent = model.encode(Batch(batch.values, present))
    assert latent.mean[2].abs().max() == 0
    assert (latent.standard_deviation[2] == 1).all()
    assert (latent.standard_deviation[[0, 1, 3, 4, 5]] < 1).all()


def test_one_modality_s_posterior_is_its_encoder_s_times_the_prior() -> None:
    model, batch = static_model(), static_batch()
    raw = model.encoders[0](batch.values["audio"])
    mean, deviation = raw[:, :4], torch.nn.functional.softplus(raw[:, 4:]) + 1e-3
    precision = 1 + deviation**-2
    latent = model.encode(only(batch, "audio"))
    torch.testing.assert_close(latent.standard_deviation, precision**-0.5)
    torch.testing.assert_close(latent.mean, mean * deviation**-2 / precision)


@settings(max_examples=20, deadline=None)
@given(masks=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=6, max_size=6), row=st.integers(0, 5))
def test_a_row_s_result_does_not_depend_on_the_other_rows(masks: list[list[bool]], row: int) -> None:
    model, batch = static_model(), static_batch()
    table = torch.tensor(masks)
    mixed = Batch(batch.values, {name: table[:, i] for i, name in enumerate(NAMES)})
    together, alone = model.encode(mixed), model.encode(rows_of(mixed, [row]))
    torch.testing.assert_close(together.mean[row], alone.mean[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.standard_deviation[row], alone.standard_deviation[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_the_order_of_modalities_changes_nothing(order: tuple[int, ...]) -> None:
    batch = static_batch()
    permuted = Batch(
        {NAMES[i]: batch.values[NAMES[i]] for i in order}, {NAMES[i]: batch.present[NAMES[i]] for i in order}
    )
    model = static_model([MODALITIES[i] for i in order])
    torch.testing.assert_close(model.encode(permuted), static_model().encode(batch))


def test_the_divergence_of_every_latent_dimension_is_the_textbook_s() -> None:
    model, batch = static_model(), static_batch()
    latent = model.encode(batch)
    terms = model.terms(batch, batch, torch.zeros(6, 4))
    expected = kl_divergence(Normal(*latent), Normal(0.0, 1.0))
    torch.testing.assert_close(terms.kl, expected)


def test_an_absent_target_adds_no_loss_and_a_hidden_input_remains_a_target() -> None:
    model, batch = static_model(), static_batch()
    terms = model.terms(only(batch, "audio"), batch, torch.zeros(6, 4))
    assert (terms.log_likelihood["word"] < 0).all()
    partial = only(batch, "audio", "face")
    assert (model.terms(batch, partial, torch.zeros(6, 4)).log_likelihood["word"] == 0).all()


def test_the_log_likelihood_of_a_category_is_the_decoder_s_log_probability() -> None:
    model, batch = static_model(), static_batch()
    terms = model.terms(batch, batch, torch.zeros(6, 4))
    probabilities = model.reconstruct(batch, ["word"], None)["word"]["probabilities"]
    expected = probabilities[torch.arange(6), batch.values["word"]].log()
    torch.testing.assert_close(terms.log_likelihood["word"], expected)


def test_every_target_is_predicted_from_any_subset() -> None:
    model, batch = static_model(), static_batch()
    for name in NAMES:
        predictions = model.reconstruct(only(batch, name), NAMES, None)
        assert predictions["audio"]["mean"].shape == (6, 3)
        assert predictions["face"]["probability"].shape == (6, 1, 2, 2)
        torch.testing.assert_close(predictions["word"]["probabilities"].sum(dim=-1), torch.ones(6))


def test_drawing_many_latent_codes_widens_the_prediction() -> None:
    model, batch = static_model(), static_batch()
    noise = torch.randn(200, 1, 4, generator=torch.Generator().manual_seed(0))
    mean = model.reconstruct(batch, ["audio"], None)["audio"]
    drawn = model.reconstruct(batch, ["audio"], noise)["audio"]
    centres = model.decode(batch, ["audio"], noise)["audio"]  # of data with mean 0 and deviation 1
    # the law of total variance
    torch.testing.assert_close(drawn["mean"], centres.mean(dim=0))
    variance = mean["standard_deviation"].square() + centres.var(dim=0, correction=0)
    torch.testing.assert_close(drawn["standard_deviation"].square(), variance)
