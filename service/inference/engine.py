"""Computes answers: loads a version once, verifies it, and runs batches of rows with different subsets."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import models
from service.inference.payload import Array, Config, Rows, answerable
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


Answers = dict[str, dict[str, Any]]


class Encoded(NamedTuple):
    """Latent codes as they are answered, and what the next piece of the sequences goes on from: (B, F) or None."""

    answer: dict[str, Any]
    state: Array | None


class Engine:
    """Keeps the `most_loaded` versions that were used last. One thread computes at a time."""

    def __init__(self, storage: Storage, most_loaded: int, threads: int) -> None:
        self._storage = storage
        self._most_loaded = most_loaded
        self._threads = threads
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._turn = threading.Lock()

    def encode(self, version: Version, rows: Rows, state: Array | None = None) -> Encoded:
        """Mean and standard deviation of every row's posterior, of every step's for sequences."""
        with self._turn:
            latent = self._predictor(version).encode(rows.values, rows.present, rows.lengths, state)
        answer = {
            "mean": answerable(latent.mean, rows.lengths),
            "standard_deviation": answerable(latent.standard_deviation, rows.lengths),
        }
        return Encoded(answer, latent.state)

    def reconstruct(
        self,
        version: Version,
        rows: Rows,
        targets: Sequence[str],
        n_samples: int,
        seed: int,
        state: Array | None = None,
    ) -> Answers:
        """The predictive distribution of every target, observed or not."""
        with self._turn:
            predictor = self._predictor(version)
            answer = predictor.reconstruct(rows.values, rows.present, rows.lengths, targets, n_samples, seed, state)
        return _answers(answer, rows.lengths)

    def score(self, version: Version, rows: Rows, n_samples: int, seed: int) -> dict[str, Any]:
        """The evidence bound of every row, of every step for sequences, and its parts."""
        with self._turn:
            found = self._predictor(version).score(rows.values, rows.present, rows.lengths, n_samples, seed)
        each = {name: answerable(part, rows.lengths) for name, part in found.log_likelihood.items()}
        return {
            "bound": answerable(found.bound, rows.lengths),
            "log_likelihood": each,
            "kl": answerable(found.kl, rows.lengths),
        }

    def forecast(
        self,
        version: Version,
        rows: Rows,
        horizon: int,
        targets: Sequence[str],
        n_samples: int,
        seed: int,
        quantiles: Sequence[float],
        state: Array | None = None,
    ) -> Answers:
        """The steps that follow every sequence."""
        with self._turn:
            predictor = self._predictor(version)
            answer = predictor.forecast(
                rows.values, rows.present, rows.lengths, horizon, targets, n_samples, seed, quantiles, state
            )
        return _answers(answer, None)

    def sample(self, version: Version, rows: int, steps: int | None, seed: int) -> Answers:
        """Draws from the prior."""
        with self._turn:
            answer = self._predictor(version).sample(rows, steps, seed)
        return _answers(answer, None)

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


def _answers(found: Mapping[str, Mapping[str, Array]], lengths: Array | None) -> Answers:
    return {name: {key: answerable(part, lengths) for key, part in parts.items()} for name, parts in found.items()}


def _unloadable(version: Version, error: Exception) -> Damaged:
    detail = f"model {version.model!r} version {version.number} cannot be loaded: {error}"
    return Damaged("artifact_corrupt", detail)
