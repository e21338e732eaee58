"""Small models and batches for the tests of this folder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.batch import Batch
from models.config import (
    MLPConfig,
    MMVAEConfig,
    MMVRNNConfig,
    ModalityConfig,
)
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN

MODALITIES = (
    ModalityConfig(name="audio", shape=(3,), likelihood="gaussian"),
    ModalityConfig(name="face", shape=(1, 2, 2), likelihood="bernoulli"),
    ModalityConfig(name="word", categories=4, likelihood="categorical"),
)


JOINS = ({"fusion": "zero"}, {"fusion": "missing_embeddings"}, {"posterior": "product_of_experts"})
"""The ways in which an MM-VRNN joins the modalities of a step."""

NETWORK = MLPConfig(hidden_features=(8,))


def static_config(modalities: Sequence[ModalityConfig] = MODALITIES, **options: Any) -> MMVAEConfig:
    """A small MM-VAE."""
    return MMVAEConfig(**{"modalities": tuple(modalities), "latent_features": 4, "network": NETWORK, **options})


def sequence_config(modalities: Sequence[ModalityConfig] = MODALITIES, **options: Any) -> MMVRNNConfig:
    """A small MM-VRNN, no two sizes of which are equal."""
    widths = {"latent_features": 4, "modality_features": 5, "hidden_features": 6, "recurrent_features": 7}
    return MMVRNNConfig(**{"modalities": tuple(modalities), **widths, "network": NETWORK, **options})


def static_model(modalities: Sequence[ModalityConfig] = MODALITIES, seed: int = 0, **options: Any) -> MMVAE:
    """An MM-VAE with random weights."""
    torch.manual_seed(seed)
    return MMVAE(static_config(modalities, **options)).eval()


def sequence_model(modalities: Sequence[ModalityConfig] = MODALITIES, seed: int = 0, **options: Any) -> MMVRNN:
    """An MM-VRNN with random weights."""
    torch.manual_seed(seed)
    return MMVRNN(sequence_config(modalities, **options)).eval()


def values(*leading: int, seed: int = 0) -> dict[str, Tensor]:
    """Random values of every modality."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "audio": torch.randn(*leading, 3, generator=generator),
        "face": torch.rand(*leading, 1, 2, 2, generator=generator).round(),
        "word": torch.randint(0, 4, leading, generator=generator),
    }


def static_batch(rows: int = 6, seed: int = 0) -> Batch:
    """Rows that have all modalities."""
    return Batch(values(rows, seed=seed), {name: torch.ones(rows, dtype=torch.bool) for name in values(1)})


def sequence_batch(lengths: Sequence[int] = (5, 3, 4), seed: int = 0) -> Batch:
    """Sequences of these lengths that have all modalities at every step."""
    rows, steps = len(lengths), max(lengths)
    valid = torch.arange(steps) < torch.tensor(lengths)[:, None]
    return Batch(values(rows, steps, seed=seed), {name: valid.clone() for name in values(1)}, torch.tensor(lengths))


def only(batch: Batch, *names: str) -> Batch:
    """The batch with the other modalities hidden by their masks."""
    present = {name: mask if name in names else torch.zeros_like(mask) for name, mask in batch.present.items()}
    return Batch(batch.values, present, batch.lengths)


def without(batch: Batch, *names: str) -> Batch:
    """The batch without these modalities' entries."""
    kept = {name: value for name, value in batch.values.items() if name not in names}
    return Batch(kept, {name: batch.present[name] for name in kept}, batch.lengths)


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of the batch."""
    index = torch.tensor(rows)
    return Batch(
        {name: value[index] for name, value in batch.values.items()},
        {name: mask[index] for name, mask in batch.present.items()},
        None if batch.lengths is None else batch.lengths[index],
    )


def randomly_present(batch: Batch, seed: int = 0, probability: float = 0.6) -> Batch:
    """The batch with each value present by this probability, and each row with something."""
    generator = torch.Generator().manual_seed(seed)
    present = {}
    for index, (name, mask) in enumerate(batch.present.items()):
        kept = torch.rand(mask.shape, generator=generator) < probability
        if index == 0:
            kept = kept | (mask & (torch.arange(mask.shape[-1]) == 0) if mask.ndim == 2 else mask)
        present[name] = mask & kept
    return Batch(batch.values, present, batch.lengths)
