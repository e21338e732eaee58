"""The training objectives: negative bounds on the evidence, with parts of the inputs hidden.

Bounds are sums over dimensions and time for each sample: (B,), in nats. The training step takes their mean over
samples, so that beta means the same at any batch size and length.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Batch
from models.config import ELBO, IWAE, ModalityConfig, SubsampledELBO, TrainingConfig
from models.multimodal import Multimodal, Particles
from models.ops.elbo import Objective, elbo, weighted
from models.ops.philox import Draws
from models.training.deletion_mix import deletion_mix
from models.training.masking import burst_deletion, modality_dropout, random_subset

# The streams of random numbers of a training step.
NOISE, DROPOUT, BURST, SUBSETS, MIX = range(5)


class Drawn(NamedTuple):
    """The targets with parts hidden, as inputs; and noise from N(0, I) for the latent: (B, Z) or (B, T, Z)."""

    inputs: Batch
    noise: Tensor


def weights(training: TrainingConfig, modalities: list[ModalityConfig]) -> dict[str, float]:
    """The weight of each modality's log-likelihood.

    'auto' gives the largest modality 1, and another one the ratio of the largest's dimensions to its own
    (arXiv:1911.03393, app. C), so that an image does not outweigh the rest. A category has one dimension.
    """
    given = training.modality_weights
    if given == "auto":
        sizes = {modality.name: math.prod(modality.shape) for modality in modalities}
        return {name: max(sizes.values()) / size for name, size in sizes.items()}
    return {modality.name: (given or {}).get(modality.name, 1.0) for modality in modalities}


def negative_bound(
    model: Multimodal,
    targets: Batch,
    training: TrainingConfig,
    beta: float,
    draws: Callable[[int], Draws],
    rows: NDArray[np.int64],
    drawn: Drawn | None = None,
) -> Objective:
    """The objective of a batch, by the bound and the masks that `training` names.

    rows: (B,) the row numbers in the dataset. draws: stream -> the random numbers of this step. drawn: the result of
    `draw`, if it was called before.
    """
    weight = weights(training, model.modalities)
    noise_of, latent = draws(NOISE), model.latent_shape(targets)
    device = next(iter(targets.present.values())).device
    match training.objective:
        case SubsampledELBO(subsets=random):
            inputs, repeated = _subsets(targets, random, draws(SUBSETS), rows)
            count = inputs.rows // len(rows)
            inputs = _with_gaps(inputs, training, draws, np.tile(rows, count))
            noise = noise_of.normal(rows, *latent[:-1], count, latent[-1]).movedim(-2, 0).flatten(0, 1)
            each = elbo(model, inputs, repeated, noise.to(device), beta, weight, training.free_bits)
            return _mean_over_subsets(each, inputs, count)
        case IWAE(particles=particles):
            noise = noise_of.normal(rows, *latent[:-1], particles, latent[-1]).movedim(-2, 0)
            inputs = hidden(targets, training, draws, rows)
            return negative_iwae(model.particles(inputs, targets, noise.to(device)), beta, weight)
        case ELBO():
            inputs, noise = drawn or draw(model, targets, training, draws, rows)
            return elbo(model, inputs, targets, noise, beta, weight, training.free_bits)


def draw(
    model: Multimodal, targets: Batch, training: TrainingConfig, draws: Callable[[int], Draws], rows: NDArray[np.int64]
) -> Drawn:
    """Masks and noise of the evidence bound of these rows, which may belong to several steps."""
    device = next(iter(targets.present.values())).device
    noise = draws(NOISE).normal(rows, *model.latent_shape(targets))
    return Drawn(hidden(targets, training, draws, rows), noise.to(device))


def negative_profile(model: Multimodal, inputs: Batch, targets: Batch) -> Tensor:
    """Negative profile log-likelihood of the targets given the posterior mean, in nats per row: (B,).

    Each row has the spread that maximises its likelihood. If some rows are much harder than others, as sequences with
    long gaps are, they do not dominate the mean over rows.
    """
    names = list(model.given(targets))
    found = torch.zeros(targets.rows, device=next(iter(targets.present.values())).device)
    for name, raw in model.decode(inputs, names, None).items():
        present, elements = targets.observed(name), targets.elements(name)
        found = found + model.likelihood(name).profile(
            raw[0][present],
            targets.values[name][present],
            present.nonzero()[:, 0],
            targets.rows,
            None if elements is None else elements[present],
        )
    return found


def hidden(targets: Batch, training: TrainingConfig, draws: Callable[[int], Draws], rows: NDArray[np.int64]) -> Batch:
    """The inputs: the targets after modality dropout and deletions."""
    inputs = modality_dropout(targets, training.modality_dropout, draws(DROPOUT), rows)
    return _with_gaps(inputs, training, draws, rows)


def negative_iwae(particles: Particles, beta: float = 1.0, weight: Mapping[str, float] | None = None) -> Objective:
    """-log sum_k w_k p(x | z_k) (p(z_k) / q(z_k | x))^beta (arXiv:1509.00519, eq. 8).

    With draws from every component of a mixture, the bound is stratified (arXiv:2003.01687, eq. 9). The result's
    log-likelihoods and KL are weighted means over the particles.
    """
    log_weight = particles.log_weight
    bound = (log_weight + weighted(particles.log_likelihood, weight) + beta * particles.log_ratio).logsumexp(dim=0)
    share = log_weight.exp()
    log_likelihood = {name: (share * value).sum(dim=0) for name, value in particles.log_likelihood.items()}
    return Objective(-bound, log_likelihood, -(share * particles.log_ratio).sum(dim=0), particles.errors)


def _with_gaps(
    inputs: Batch, training: TrainingConfig, draws: Callable[[int], Draws], rows: NDArray[np.int64]
) -> Batch:
    """The inputs after deletions of time steps."""
    if training.burst_deletion is not None:
        inputs = burst_deletion(inputs, training.burst_deletion, draws(BURST), rows)
    if training.deletion_mix is not None:
        inputs = deletion_mix(inputs, training.deletion_mix, draws(MIX), rows)
    return inputs


def _subsets(targets: Batch, random: int, draws: Draws, rows: NDArray[np.int64]) -> tuple[Batch, Batch]:
    """The batch once for all modalities, once for each alone, and for random subsets: inputs, and targets repeated."""
    names = sorted(targets.present)
    has = torch.stack([_of_rows(targets.observed(name)) for name in names])  # (M, B)
    alone = torch.eye(len(names), dtype=torch.bool, device=has.device).unsqueeze(-1) & has  # (M, M, B)
    width = 1 + len(names)
    chance = draws.uniform(rows, max(random, 1) * width).T.to(has.device).unflatten(0, (-1, width))  # (K, 1 + M, B)
    keeps = torch.stack([has, *alone, *(random_subset(has, own[0], own[1:]) for own in chance[:random])])  # (K, M, B)
    count = len(keeps)
    repeated = Batch(
        {name: value.repeat(count, *[1] * (value.ndim - 1)) for name, value in targets.values.items()},
        {name: mask.repeat(count, *[1] * (mask.ndim - 1)) for name, mask in targets.present.items()},
        None if targets.lengths is None else targets.lengths.repeat(count),
    )
    # an empty subset has no targets: they would teach the prior only
    something = keeps.any(dim=1).flatten()
    inputs = repeated.kept({name: keeps[:, index].flatten() for index, name in enumerate(names)})
    return inputs, repeated.kept(dict.fromkeys(names, something))


def _mean_over_subsets(each: Objective, inputs: Batch, count: int) -> Objective:
    """Mean over a row's subsets; one that is empty, because the row lacks that modality, does not count."""
    something = torch.stack([_of_rows(inputs.observed(name)) for name in inputs.present]).any(dim=0)
    share = something.unflatten(0, (count, -1)).float()
    share = share / share.sum(dim=0).clamp(min=1)

    def mean(value: Tensor) -> Tensor:
        of_subsets: Tensor = share * value.unflatten(0, (count, -1))
        return of_subsets.sum(dim=0)

    return Objective(
        mean(each.loss), {name: mean(v) for name, v in each.log_likelihood.items()}, mean(each.kl), each.errors
    )


def _of_rows(observed: Tensor) -> Tensor:
    """Whether a row has a modality at any step: (B,) or (B, T) -> (B,)."""
    return observed.any(dim=1) if observed.ndim == 2 else observed
