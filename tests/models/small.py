"""Small models and batches for the tests of this folder."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.architectures import Model, build
from models.batch import Batch
from models.config import (
    MLPConfig,
    MMVAEConfig,
    MMVRNNConfig,
    ModalityConfig,
)

MODALITIES = (
    ModalityConfig(name="audio", shape=(3,), likelihood="gaussian"),
    ModalityConfig(name="face", shape=(1, 2, 2), likelihood="bernoulli"),
    ModalityConfig(name="word", categories=4, likelihood="categorical"),
)


def static_model(modalities: Sequence[ModalityConfig] = MODALITIES, seed: int = 0) -> Model:
    """An MM-VAE with random weights."""
    torch.manual_seed(seed)
    network = MLPConfig(hidden_features=(8,))
    return build(MMVAEConfig(modalities=tuple(modalities), latent_features=4, network=network)).eval()


def sequence_model(modalities: Sequence[ModalityConfig] = MODALITIES, seed: int = 0) -> Model:
    """An MM-VRNN with random weights, no two sizes of which are equal."""
    torch.manual_seed(seed)
    config = MMVRNNConfig(
        modalities=tuple(modalities),
        latent_features=4,
        modality_features=5,
        hidden_features=6,
        recurrent_features=7,
        network=MLPConfig(hidden_features=(8,)),
    )
    return build(config).eval()


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
