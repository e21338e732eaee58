"""Computes answers: loads a version once, verifies it, and runs batches of rows with different subsets."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import models
from service.inference.payload import Config, Rows, answerable
from service.shared.errors import Damaged
from service.shared.storage import CorruptArtifact, Storage

if TYPE_CHECKING:
    from models.predictor import Predictor


@dataclass(frozen=True)
class Version:
    """A model version as the engine needs it: what to load, and how to recognise that it is whole."""

    id: str
    project_id: str
    model: str
    number: int
    config: Config
    sha256: str
    size_bytes: int


class Engine:
    """Keeps the `most_loaded` versions that were used last. One thread computes at a time."""

    def __init__(self, storage: Storage, most_loaded: int, threads: int) -> None:
        self._storage = storage
        self._most_loaded = most_loaded
        self._threads = threads
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._turn = threading.Lock()

    def encode(self, version: Version, rows: Rows) -> dict[str, Any]:
        """Mean and standard deviation of every row's posterior, of every step's for sequences."""
        with self._turn:
            latent = self._predictor(version).encode(rows.values, rows.present, rows.lengths)
        return {
            "mean": answerable(latent.mean, rows.lengths),
            "standard_deviation": answerable(latent.standard_deviation, rows.lengths),
        }

    def reconstruct(
        self, version: Version, rows: Rows, targets: Sequence[str], n_samples: int, seed: int
    ) -> dict[str, dict[str, Any]]:
        """The predictive distribution of every target, observed or not."""
        with self._turn:
            predictor = self._predictor(version)
            answer = predictor.reconstruct(rows.values, rows.present, rows.lengths, targets, n_samples, seed)
        return {
            target: {key: answerable(part, rows.lengths) for key, part in parts.items()}
            for target, parts in answer.items()
        }

    def _predictor(self, version: Version) -> "Predictor":
        if predictor := self._loaded.get(version.id):
            self._loaded.move_to_end(version.id)
            return predictor
        try:
            path = self._storage.fetch(version.project_id, version.sha256, version.size_bytes)
        except CorruptArtifact as error:
            raise _unloadable(version, error) from error
        models.use_threads(self._threads)
        try:
            predictor = models.load(path)
        except models.CheckpointError as error:
            raise _unloadable(version, error) from error
        self._loaded[version.id] = predictor
        while len(self._loaded) > self._most_loaded:
            self._loaded.popitem(last=False)
        return predictor


def _unloadable(version: Version, error: Exception) -> Damaged:
    detail = f"model {version.model!r} version {version.number} cannot be loaded: {error}"
    return Damaged("artifact_corrupt", detail)
