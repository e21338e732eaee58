"""NumPy arrays as batches and tensors, and back."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models import batch
from models.batch import Batch
from models.config import Kind, ModalityConfig

Arrays = Mapping[str, np.ndarray]


def to_batch(
    modalities: Sequence[ModalityConfig], kind: Kind, values: Arrays, present: Arrays, lengths: np.ndarray | None
) -> Batch:
    """The batch of these arrays, with zeros in absent places. Sequences have all their steps if `lengths` is None.

    Raises BatchError for arrays that do not fit.
    """
    known = {modality.name: modality for modality in modalities}
    masks = {name: to_tensor(mask, np.bool_) for name, mask in present.items()}
    if lengths is None and kind == "sequence" and masks:
        shape = next(iter(masks.values())).shape
        lengths = np.full(shape[:1], shape[1] if len(shape) > 1 else 0)
    found = Batch(
        values={name: _value(known.get(name), value, present.get(name)) for name, value in values.items()},
        present=masks,
        lengths=None if lengths is None else to_tensor(lengths, np.int64),
    )
    batch.check(found, modalities, kind)
    return found


def to_tensor(array: np.ndarray, dtype: np.typing.DTypeLike) -> Tensor:
    """A tensor of this type; copies only an array of another type, and one that is not writeable."""
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors as arrays, by the same names."""
    return {key: tensor.numpy() for key, tensor in tensors.items()}


def _value(modality: ModalityConfig | None, value: np.ndarray, mask: np.ndarray | None) -> Tensor:
    """A value as a tensor, with zeros in place of absent numbers. `batch.check` reports values that do not fit."""
    categorical = modality is not None and modality.categories is not None
    if categorical and value.dtype.kind not in "iu":
        return to_tensor(value, value.dtype)
    tensor = to_tensor(value, np.int64 if categorical else np.float32)
    if mask is None or mask.shape != value.shape[: mask.ndim] or np.count_nonzero(mask) == mask.size:
        return tensor
    return torch.where(to_tensor(mask, np.bool_).reshape(*mask.shape, *[1] * (value.ndim - mask.ndim)), tensor, 0)
