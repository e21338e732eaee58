"""The multimodal VRNN beside a loop over steps that is written out; see also test_mmvrnn_combinations."""

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from tests.models.small import MODALITIES, only, sequence_batch, sequence_model

NAMES = [modality.name for modality in MODALITIES]


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
