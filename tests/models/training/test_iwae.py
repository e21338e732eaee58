"""Importance weighted bounds beside torch's densities and an exact evidence."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from models.batch import Batch
from models.config import ModalityConfig
from models.multimodal import Multimodal
from models.ops.elbo import negative_elbo
from models.training.objective import negative_iwae
from tests.models.small import (
    MODALITIES,
    only,
    randomly_present,
    sequence_batch,
    sequence_model,
    static_batch,
    static_model,
)

NAMES = [modality.name for modality in MODALITIES]
FIXED = [MODALITIES[0].model_copy(update={"scale": 0.6}), *MODALITIES[1:]]


def _sampled_bound(model: Multimodal, batch: Batch, noise: Tensor) -> Tensor:
    """log p(x | z) + log p(z) - log q(z | x) of one draw, for an MM-VAE of a product."""
    q = Normal(*model.encode(batch))
    z = q.mean + q.stddev * noise
    terms = model.terms(batch, batch, noise)
    likelihood = torch.stack(list(terms.log_likelihood.values())).sum(dim=0)
    return likelihood + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=-1)


def test_with_one_particle_it_is_the_evidence_bound_with_a_sampled_divergence() -> None:
    model, batch, noise = static_model(), randomly_present(static_batch()), torch.randn(1, 6, 4)
    found = negative_iwae(model.particles(batch, batch, noise)).loss
    torch.testing.assert_close(-found, _sampled_bound(model, batch, noise[0]), rtol=1e-5, atol=1e-5)


def test_particles_are_averaged_under_the_logarithm() -> None:
    model, batch, noise = static_model(), randomly_present(static_batch()), torch.randn(5, 6, 4)
    each = torch.stack([_sampled_bound(model, batch, one) for one in noise])
    expected = each.exp().mean(dim=0).log()
    torch.testing.assert_close(
        -negative_iwae(model.particles(batch, batch, noise)).loss, expected, rtol=1e-5, atol=1e-5
    )


def test_a_sequence_s_particles_are_whole_paths() -> None:
    model, batch = sequence_model(FIXED), randomly_present(sequence_batch((4, 2)))
    noise = torch.randn(3, 2, 4, 4)
    each = []
    for one in noise:
        path = model.infer(model.evidence(batch), one)
        q, p = Normal(*path.posterior), Normal(*model.priors(path))
        ratio = torch.where(batch.valid, (p.log_prob(path.codes) - q.log_prob(path.codes)).sum(dim=-1), 0.0)
        terms = model.terms(batch, batch, one)
        each.append(ratio.sum(dim=1) + torch.stack(list(terms.log_likelihood.values())).sum(dim=(0, 2)))
    expected = torch.stack(each).exp().mean(dim=0).log()
    torch.testing.assert_close(
        -negative_iwae(model.particles(batch, batch, noise)).loss, expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("expert", ["mixture", "mixture_of_products"])
def test_for_a_mixture_it_is_stratified(expert: str) -> None:
    """log of the mean over components, by weight, of p(x, z) / q(z | x), q being the whole mixture."""
    model, batch, noise = static_model(expert=expert), randomly_present(static_batch()), torch.randn(3, 6, 4)
    posterior = model.posterior(batch)
    mean, deviation = (part.movedim(0, 1) for part in posterior.components)  # (B, C, Z)
    q = MixtureSameFamily(Categorical(posterior.weight.T), Independent(Normal(mean, deviation), 1))
    total = torch.zeros(6)
    for component, weight in enumerate(posterior.weight):
        for one in noise:
            z = mean[:, component] + deviation[:, component] * one
            raws = {name: raw[0] for name, raw in model.generate(z.unsqueeze(0), NAMES).items()}
            likelihood = sum(
                torch.where(batch.present[name], model.likelihood(name).log_prob(raw, batch.values[name]), 0.0)
                for name, raw in raws.items()
            )
            prior = Normal(0.0, 1.0).log_prob(z).sum(dim=-1)
            total = total + weight / 3 * (likelihood + prior - q.log_prob(z)).exp()
    torch.testing.assert_close(
        -negative_iwae(model.particles(batch, batch, noise)).loss, total.log(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("expert", ["product", "mixture"])
def test_a_modality_that_no_row_has_leaves_finite_gradients(expert: str) -> None:
    model, batch = static_model(expert=expert), only(static_batch(), "audio")
    negative_iwae(model.particles(batch, batch, torch.randn(2, 6, 4))).loss.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_with_particles_the_bound_is_tighter_than_the_evidence_bound() -> None:
    model, batch = static_model(), static_batch()
    noise = torch.randn(100, 6, 4, generator=torch.Generator().manual_seed(0))
    evidence = torch.stack([negative_elbo(model.terms(batch, batch, one), 1.0).loss for one in noise]).mean(dim=0)
    weighted = negative_iwae(model.particles(batch, batch, noise)).loss
    assert (weighted < evidence).all()


def _linear_gaussian(expert: str = "product") -> tuple[Multimodal, Batch, Mapping[str, Tensor]]:
    """x = W z + b + s e in two parts, and each part's log evidence."""
    linear = {"name": "mlp", "hidden_features": ()}
    shapes = {"a": 3, "b": 2}
    modalities = [ModalityConfig(name=n, shape=(d,), likelihood="gaussian", scale=0.8) for n, d in shapes.items()]
    model = static_model(modalities, network=linear, expert=expert, latent_features=2)
    values, maps = {n: 0.8 * torch.randn(5, d) for n, d in shapes.items()}, {}
    for name, index in model.index.items():
        # encoders so wide that the proposal is nearly the prior, which a mixture does not count in
        model.encoders[index][-1].bias.data[2:] += 6 if expert == "product" else 2
        maps[name] = model.decoders[index][0]
    weight = torch.cat([layer.weight for layer in maps.values()])
    bias = torch.cat([layer.bias for layer in maps.values()])
    x = MultivariateNormal(bias, weight @ weight.T + 0.64 * torch.eye(5))
    a = MultivariateNormal(bias[:3], (weight @ weight.T + 0.64 * torch.eye(5))[:3, :3])
    evidence = {"both": x.log_prob(torch.cat(list(values.values()), dim=1)), "a": a.log_prob(values["a"])}
    return model, Batch(values, {n: torch.ones(5, dtype=torch.bool) for n in values}), evidence


@pytest.mark.parametrize("expert", ["product", "mixture"])
@pytest.mark.parametrize("given", ["both", "a"])
def test_with_many_particles_it_is_the_exact_evidence_of_a_linear_gaussian_model(expert: str, given: str) -> None:
    model, batch, evidence = _linear_gaussian(expert)
    inputs = batch if given == "both" else only(batch, "a")
    noise = torch.randn(20_000, 5, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = -negative_iwae(model.particles(inputs, inputs, noise)).loss
    torch.testing.assert_close(found, evidence[given].detach(), rtol=0, atol=0.04)
