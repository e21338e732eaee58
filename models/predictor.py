"""A trained model behind NumPy arrays: the only face of `models` that serving sees."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models import batch, checkpoint
from models.architectures import Model
from models.batch import Batch, BatchError
from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig


class Latent(NamedTuple):
    """Mean and standard deviation of q(z | inputs): (B, Z) or (B, T, Z) each."""

    mean: np.ndarray
    standard_deviation: np.ndarray


class Predictor:
    """Answers questions about samples of which any subset of the modalities is given. Safe to share by threads.

    values: name -> (B, *shape) or (B, T, *shape). present: name -> (B,) or (B, T) bool, the keys of `values`; what
    stands in absent places does not matter. lengths: (B,) for sequences, None when all have T steps. A modality that
    is not in `values` is absent everywhere. Rows with different subsets share a batch, and a row's answer does not
    depend on the other rows. What stands at padding steps of an answer means nothing. Values that do not fit raise
    `models.batch.BatchError`.
    """

    def __init__(self, model: Model) -> None:
        self._model = model.eval()

    @property
    def config(self) -> MMVAEConfig | MMVRNNConfig:
        """Architecture and modalities of the model."""
        return self._model.config

    @torch.inference_mode()
    def encode(
        self, values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], lengths: np.ndarray | None = None
    ) -> Latent:
        """Posterior mean and standard deviation of the latent codes."""
        latent = self._model.encode(self._batch(values, present, lengths))
        return Latent(latent.mean.numpy(), latent.standard_deviation.numpy())

    @torch.inference_mode()
    def reconstruct(
        self,
        values: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        lengths: np.ndarray | None,
        targets: Sequence[str],
        n_samples: int = 0,
        seed: int = 0,
    ) -> dict[str, dict[str, np.ndarray]]:
        """The predictive distribution of every target, observed or not, in the user's units.

        Gaussian: mean, standard_deviation, of the target's shape. Bernoulli: probability, of the target's shape.
        Categorical: probabilities (..., K) and category (...), the most likely.

        n_samples = 0 decodes the posterior mean. n_samples = S > 0 averages over S draws of the latent: Gaussian
        mean = E[mu] and variance = sigma^2 + Var[mu] (law of total variance), probabilities = E[p], category = the
        most likely under the average. The draws follow from `seed` alone and are the same for every row: rows do not
        depend on their place, and step t does not depend on the padding.
        """
        known = {modality.name for modality in self.config.modalities}
        if unknown := [name for name in targets if name not in known]:
            raise BatchError(f"targets has {', '.join(unknown)}, expected some of {', '.join(sorted(known))}")
        inputs = self._batch(values, present, lengths)
        noise = self._noise(inputs, n_samples, seed) if n_samples else None
        predictions = self._model.reconstruct(inputs, targets, noise)
        return {name: {key: part.numpy() for key, part in parts.items()} for name, parts in predictions.items()}

    def _batch(
        self, values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], lengths: np.ndarray | None
    ) -> Batch:
        known = {modality.name: modality for modality in self.config.modalities}
        masks = {name: _tensor(mask, np.bool_) for name, mask in present.items()}
        if lengths is None and self.config.kind == "sequence" and masks:
            shape = next(iter(masks.values())).shape
            lengths = np.full(shape[:1], shape[-1])
        inputs = Batch(
            values={name: _value(known.get(name), value, masks.get(name)) for name, value in values.items()},
            present=masks,
            lengths=None if lengths is None else _tensor(lengths, np.int64),
        )
        batch.check(inputs, self.config.modalities, self.config.kind)
        return inputs

    def _noise(self, inputs: Batch, n_samples: int, seed: int) -> Tensor:
        """(S, 1, Z) or (S, 1, T, Z). Drawn step by step: what padding adds comes after all that counts."""
        _, *steps, features = self._model.noise_shape(inputs)
        noise = np.random.default_rng(seed).standard_normal((*steps, n_samples, features), dtype=np.float32)
        return torch.from_numpy(np.moveaxis(noise, -2, 0)).unsqueeze(1)


def load(path: Path) -> Predictor:
    """The predictor of a checkpoint; raises `models.checkpoint.CheckpointError` when the file is not one."""
    return Predictor(checkpoint.load(path))


def use_threads(count: int) -> None:
    """Compute with this many processor threads, in all of this process."""
    torch.set_num_threads(count)


def _value(modality: ModalityConfig | None, value: np.ndarray, mask: Tensor | None) -> Tensor:
    """A value as a tensor with zeros where it is absent, whatever stood there; misfits are left for `batch.check`."""
    categorical = modality is not None and modality.categories is not None
    if categorical and value.dtype.kind not in "iu":
        return _tensor(value, value.dtype)
    tensor = _tensor(value, np.int64 if categorical else np.float32)
    if mask is None or mask.shape != tensor.shape[: mask.ndim]:
        return tensor
    return torch.where(mask.reshape(*mask.shape, *[1] * (tensor.ndim - mask.ndim)), tensor, 0)


def _tensor(array: np.ndarray, dtype: np.typing.DTypeLike) -> Tensor:
    """A tensor of this type; copies only an array that is of another type or may not be written to."""
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))
