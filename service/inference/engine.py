"""Computes answers: loads a version once, verifies it, and runs batches of rows with different subsets."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import models
from service.inference.payload import Array, Rows
from service.inference.questions import Question, Tree, Version
from service.shared.errors import Damaged
from service.shared.storage import CorruptArtifact, Storage

if TYPE_CHECKING:
    from models.predictor import Predictor


class Engine:
    """Keeps the `most_loaded` versions that were used last. One thread computes at a time."""

    def __init__(self, storage: Storage, most_loaded: int, threads: int) -> None:
        self._storage = storage
        self._most_loaded = most_loaded
        self._threads = threads
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._turn = threading.Lock()

    def answer(self, question: Question, rows: Rows, state: Array | None = None) -> Tree:
        """What the model says about all rows, as arrays; of sequences padded.

        encode: mean, standard_deviation and state. reconstruct and forecast: what the likelihood of every target has.
        score: bound, kl, and log_likelihood by modality.
        """
        given = rows.values, rows.present, rows.lengths
        asked = question.arguments
        with self._turn:
            predictor = self._predictor(question.version)
            match question.operation:
                case "encode":
                    latent = predictor.encode(*given, state)
                    states = {} if latent.state is None else {"state": latent.state}
                    return {"mean": latent.mean, "standard_deviation": latent.standard_deviation, **states}
                case "reconstruct":
                    return predictor.reconstruct(*given, **asked, state=state)
                case "score":
                    return predictor.score(*given, **asked)._asdict()
                case "forecast":
                    return predictor.forecast(*given, **asked, state=state)

    def sample(self, version: Version, rows: int, steps: int | None, seed: int) -> Tree:
        """Draws from the prior."""
        with self._turn:
            return self._predictor(version).sample(rows, steps, seed)

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
