"""The multimodal VRNN: presence at every step, padding, order, and a step-by-step reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from models.batch import Batch
from tests.models.small import MODALITIES, only, rows_of, sequence_batch, sequence_model, without

NAMES = [modality.name for modality in MODALITIES]


def test_hiding_a_modality_equals_not_having_it() -> None:
    model, batch = sequence_model(), sequence_batch()
    for name in NAMES:
        others = [other for other in NAMES if other != name]
        torch.testing.assert_close(model.encode(only(batch, *others)), model.encode(without(batch, name)))


def test_a_value_that_is_absent_at_a_step_changes_nothing() -> None:
    model, batch = sequence_model(), sequence_batch()
    present = {name: mask.clone() for name, mask in batch.present.items()}
    present["audio"][0, 2] = False
    changed = dict(batch.values)
    changed["audio"] = batch.values["audio"].clone()
    changed["audio"][0, 2] = 1e6
    first = model.encode(Batch(batch.values, present, batch.lengths))
    torch.testing.assert_close(first, model.encode(Batch(changed, present, batch.lengths)))


def test_the_filter_never_looks_ahead() -> None:
    model, batch = sequence_model(), sequence_batch((5,))
    changed = {name: value.clone() for name, value in batch.values.items()}
    changed["audio"][0, 3:] += 1
    before, after = model.encode(batch).mean[0], model.encode(Batch(changed, batch.present, batch.lengths)).mean[0]
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


@settings(max_examples=15, deadline=None)
@given(padding=st.integers(1, 4), garbage=st.floats(-1e3, 1e3))
def test_padding_costs_nothing_and_changes_nothing(padding: int, garbage: float) -> None:
    model, batch = sequence_model(), sequence_batch((4, 2))
    noise = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1))

    def padded(value: torch.Tensor, fill: float) -> torch.Tensor:
        return torch.cat([value, torch.full((2, padding, *value.shape[2:]), fill).to(value.dtype)], dim=1)

    fills = {"audio": garbage, "face": 1.0, "word": 3.0}
    longer = Batch(
        {name: padded(value, fills[name]) for name, value in batch.values.items()},
        {name: padded(mask, 0.0) for name, mask in batch.present.items()},
        batch.lengths,
    )
    short, long = model.terms(batch, batch, noise), model.terms(longer, longer, padded(noise, 5.0))
    torch.testing.assert_close(short.kl, long.kl[:, :4])
    assert not long.kl[:, 4:].any()
    for name in NAMES:
        torch.testing.assert_close(short.log_likelihood[name], long.log_likelihood[name][:, :4])
        assert not long.log_likelihood[name][:, 4:].any()


@settings(max_examples=10, deadline=None)
@given(row=st.integers(0, 2))
def test_a_sequence_s_result_does_not_depend_on_the_others(row: int) -> None:
    model, batch = sequence_model(), sequence_batch()
    together, alone = model.encode(batch), model.encode(rows_of(batch, [row]))
    torch.testing.assert_close(together.mean[row], alone.mean[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_modalities_changes_nothing(order: tuple[int, ...]) -> None:
    batch = sequence_batch()
    permuted = Batch(
        {NAMES[i]: batch.values[NAMES[i]] for i in order},
        {NAMES[i]: batch.present[NAMES[i]] for i in order},
        batch.lengths,
    )
    model = sequence_model([MODALITIES[i] for i in order])
    torch.testing.assert_close(model.encode(permuted), sequence_model().encode(batch))


def test_the_terms_equal_those_of_a_loop_written_out_over_steps() -> None:
    """The same weights, one step after the other, as the paper's equations 5 to 10 say."""
    model, batch = sequence_model(), sequence_batch((3,))
    noise = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(2))
    features = model.evidence(batch).joined[0]
    state, kl, densities = torch.zeros(1, 7), [], {name: [] for name in NAMES}
    for t in range(3):
        x = features[t : t + 1]
        hidden = functional.silu(model.inference.seen(x) + model.inference.state(state))
        mean, raw = model.inference.output(hidden).chunk(2, dim=-1)
        posterior = Normal(mean, functional.softplus(raw) + 1e-3)
        prior_mean, prior_raw = model.prior(state).chunk(2, dim=-1)
        prior = Normal(prior_mean, functional.softplus(prior_raw) + 1e-3)
        z = posterior.mean + posterior.stddev * noise[:, t]
        kl.append(kl_divergence(posterior, prior)[0])
        for index, name in enumerate(NAMES):
            decoded = model.decoders[index](torch.cat([z, state], dim=-1))
            densities[name].append(model.likelihood(name).log_prob(decoded, batch.values[name][:, t])[0])
        gates = model.recurrence.known(x) + model.recurrence.latent(z)
        r, u, n = gates.chunk(3, dim=-1)
        r_h, u_h, n_h = model.recurrence.recurrent[0](state).chunk(3, dim=-1)
        u = torch.sigmoid(u + u_h)
        state = (1 - u) * torch.tanh(n + torch.sigmoid(r + r_h) * n_h) + u * state
    terms = model.terms(batch, batch, noise)
    torch.testing.assert_close(terms.kl[0], torch.stack(kl))
    for name in NAMES:
        torch.testing.assert_close(terms.log_likelihood[name][0], torch.stack(densities[name]))


def test_every_target_is_predicted_at_every_step_from_any_subset() -> None:
    model, batch = sequence_model(), sequence_batch()
    predictions = model.reconstruct(only(batch, "word"), NAMES, None)
    assert predictions["audio"]["mean"].shape == (3, 5, 3)
    assert predictions["face"]["probability"].shape == (3, 5, 1, 2, 2)
    assert predictions["word"]["category"].shape == (3, 5)
