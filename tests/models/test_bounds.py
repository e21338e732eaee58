"""The training objectives of whole models beside sums written out, torch's densities, and an exact evidence."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from models.batch import Batch
from models.config import IWAE, ModalityConfig, SubsampledELBO, SubsetDropout, TrainingConfig
from models.dropout import random_subset
from models.multimodal import Multimodal
from models.objective import NOISE, SUBSETS, negative_bound, negative_elbo, negative_iwae
from models.philox import Draws
from tests.models.small import (
    MODALITIES,
    only,
    randomly_present,
    rows_of,
    sequence_batch,
    sequence_model,
    static_batch,
    static_model,
)

NAMES = [modality.name for modality in MODALITIES]
FIXED = [MODALITIES[0].model_copy(update={"scale": 0.6}), *MODALITIES[1:]]
WHOLE = SubsetDropout(probability=0.0)


def _draws(stream: int) -> Draws:
    return Draws(5, step=7, stream=stream)


def _cases() -> list[tuple[Multimodal, Batch]]:
    return [
        (static_model(), randomly_present(static_batch(8), 3)),
        (static_model(expert="mixture"), randomly_present(static_batch(8), 3)),
        (sequence_model(), randomly_present(sequence_batch((5, 3, 4, 1)), 3)),
        (sequence_model(fusion="product_of_experts", inference="smooth"), sequence_batch((2, 3))),
    ]


def _subset(batch: Batch, row: int, kept: Tensor) -> Batch:
    """One row with some of its modalities."""
    return only(rows_of(batch, [row]), *(name for name, here in zip(NAMES, kept.tolist(), strict=True) if here))


@pytest.mark.parametrize("random", [0, 2])
@pytest.mark.parametrize(("model", "batch"), _cases())
def test_the_subsampled_bound_is_the_mean_of_those_of_all_each_alone_and_random_subsets(
    model: Multimodal, batch: Batch, random: int
) -> None:
    training = TrainingConfig(objective=SubsampledELBO(subsets=random), modality_weights={"word": 2.0}, free_bits=0.1)
    rows = np.arange(100, 100 + batch.rows)
    found = negative_bound(model, batch, training, 0.3, _draws, rows)

    latent, count = model.latent_shape(batch), 1 + len(NAMES) + random
    noise = _draws(NOISE).normal(rows, *latent[:-1], count, latent[-1])
    chance = _draws(SUBSETS).uniform(rows, max(random, 1))
    weight = dict.fromkeys(NAMES, 1.0) | {"word": 2.0}
    for row in range(batch.rows):
        has = torch.stack([batch.present[name][row].any() for name in NAMES])
        kept = [has, *(torch.eye(3).bool() & has)]
        kept += [random_subset(has.unsqueeze(1), chance[row : row + 1, k])[:, 0] for k in range(random)]
        each = [
            negative_elbo(
                model.terms(_subset(batch, row, members), rows_of(batch, [row]), noise[row : row + 1, ..., k, :]),
                0.3,
                weight,
                0.1,
            )
            for k, members in enumerate(kept)
            if members.any()
        ]
        torch.testing.assert_close(found.loss[row], torch.cat([one.loss for one in each]).mean(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.kl[row], torch.cat([one.kl for one in each]).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("model", "batch"), _cases())
def test_a_row_s_objective_does_not_depend_on_its_batch(model: Multimodal, batch: Batch) -> None:
    rows = np.array([8, 3, 5, 1, 0, 2, 9, 4])[: batch.rows]
    for objective in (SubsampledELBO(subsets=1), IWAE(particles=3), TrainingConfig().objective):
        training = TrainingConfig(objective=objective)
        whole = negative_bound(model, batch, training, 0.3, _draws, rows).loss
        for row in range(batch.rows):
            alone = negative_bound(model, rows_of(batch, [row]), training, 0.3, _draws, rows[row : row + 1]).loss
            torch.testing.assert_close(whole[row], alone[0], rtol=1e-4, atol=1e-4)


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
        path = model.follow(model.evidence(batch), one)
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


def test_the_plain_objective_weighs_modalities_and_hides_nothing_from_the_targets() -> None:
    model, batch, rows = static_model(), static_batch(), np.arange(6)
    training = TrainingConfig(modality_dropout=WHOLE, modality_weights="auto", free_bits=0.2)
    found = negative_bound(model, batch, training, 0.4, _draws, rows)
    terms = model.terms(batch, batch, _draws(NOISE).normal(rows, 4))
    weighted = sum(4 / size * terms.log_likelihood[name] for name, size in [("audio", 3), ("face", 4), ("word", 1)])
    torch.testing.assert_close(found.loss, 0.4 * terms.kl.clamp(min=0.2).sum(dim=1) - weighted)


def test_errors_to_adapt_to_come_in_training_alone() -> None:
    model, batch = static_model(), static_batch()
    noise = torch.zeros(6, 4)
    assert model.terms(batch, batch, noise).errors == {}
    errors = model.train().terms(only(batch, "word"), batch, noise).errors
    assert errors["audio"][0] == 6
    assert len(errors["word"]) == 0
    before = model.likelihood("audio").moment.clone()
    model.adapt(errors)
    assert not torch.equal(model.likelihood("audio").moment, before)
