"""Arrays in memory as a stored dataset's samples."""

from collections.abc import Mapping

from models.training.dataset import Array, Dataset
from service.shared.samples import ModalitySchema, Samples, Schema


def of_arrays(values: Mapping[str, Array]) -> Samples:
    """Samples (N, *shape), all present."""
    return of_dataset(Dataset.from_arrays(values))


def of_dataset(dataset: Dataset) -> Samples:
    """The same arrays with their schema."""
    modalities = tuple(
        ModalitySchema(
            name=name, shape=shape, categories=categories, dtype="float32" if categories is None else "int64"
        )
        for name, shape, categories in dataset.modalities
    )
    schema = Schema(kind=dataset.kind, modalities=modalities)
    return Samples(schema, dataset.rows, dataset.values, dataset.present, dataset.offsets, dataset.splits)
