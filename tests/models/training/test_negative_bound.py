"""The training objectives of whole models beside sums written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.batch import Batch
from models.config import IWAE, SubsampledELBO, SubsetDropout, TrainingConfig
from models.multimodal import Multimodal
from models.ops.elbo import negative_elbo
from models.ops.philox import Draws
from models.training.masking import random_subset
from models.training.objective import NOISE, SUBSETS, negative_bound
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
WHOLE = SubsetDropout(probability=0.0)


def _draws(stream: int) -> Draws:
    return Draws(5, step=7, stream=stream)


def _cases() -> list[tuple[Multimodal, Batch]]:
    return [
        (static_model(), randomly_present(static_batch(8), 3)),
        (static_model(expert="mixture"), randomly_present(static_batch(8), 3)),
        (sequence_model(), randomly_present(sequence_batch((5, 3, 4, 1)), 3)),
        (sequence_model(posterior="product_of_experts", inference="smooth"), sequence_batch((2, 3))),
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
    chance = _draws(SUBSETS).uniform(rows, max(random, 1) * 4).unflatten(1, (-1, 4))  # (B, K, 1 + M)
    weight = dict.fromkeys(NAMES, 1.0) | {"word": 2.0}
    for row in range(batch.rows):
        has = torch.stack([batch.present[name][row].any() for name in NAMES])
        kept = [has, *(torch.eye(3).bool() & has)]
        kept += [random_subset(has[:, None], chance[row, k, :1], chance[row, k, 1:, None])[:, 0] for k in range(random)]
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
