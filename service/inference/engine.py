"""Computes answers: loads a version once, verifies it, warms it up, and runs batches of rows with different subsets."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import structlog

import models
from service.inference import metrics
from service.inference.payload import Rows
from service.inference.questions import Loadable, Question, Tree
from service.inference.values import Array
from service.shared import garbage_collection
from service.shared.errors import Damaged, Exhausted, Unavailable
from service.shared.storage import CorruptArtifact, Storage

if TYPE_CHECKING:
    from models.predictor import Predictor

log = structlog.get_logger(__name__)


class Holdings(NamedTuple):
    """How many versions an engine has, what their weights take, and what they may take."""

    versions: int
    memory_bytes: int
    limit_bytes: int


class Engine:
    """Keeps as many versions as fit in `memory_bytes`, those that were used last.

    Safe to share by threads: one computes at a time, and loading does not make it wait.
    """

    def __init__(self, storage: Storage, memory_bytes: int, threads: int) -> None:
        self._storage = storage
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._told = threading.local()
        self._shelf = threading.Lock()
        self._loading = threading.Lock()
        self._turn = threading.Lock()

    def answer(self, question: Question, rows: Rows, state: Array | None = None) -> Tree:
        """What the model says about all rows, as arrays; of sequences padded.

        encode: mean, standard_deviation and state. reconstruct and forecast: what the likelihood of every target has.
        score: bound, kl, and log_likelihood by modality. sample: as many draws as there are rows, which are empty.
        Raises Damaged, Exhausted and Unavailable.
        """
        predictor = self.load(question.version)
        try:
            self._use_threads()
            with self._turn:
                return _answer(predictor, question, rows, state)
        except Exception as error:
            if models.ran_out_of_memory(error):
                detail = f"the engine has no memory left for {rows.count} rows; send fewer, or try again"
                raise Unavailable("engine_out_of_memory", detail) from error
            raise

    def holds(self, version: Loadable) -> bool:
        """Whether a version is loaded, so that nobody waits for it."""
        return version.id in self._loaded

    def load(self, version: Loadable) -> "Predictor":
        """A version, loaded and warm. Raises Damaged and Exhausted."""
        if (predictor := self._take(version)) is not None:
            return predictor
        with self._loading:
            if (predictor := self._take(version)) is not None:
                return predictor
            predictor = self._read(version)
            with self._shelf:
                self._loaded[version.id] = predictor
                metrics.LOADS.inc()
                while sum(one.memory_bytes for one in self._loaded.values()) > self._memory_bytes:
                    self._loaded.popitem(last=False)
                    metrics.EVICTIONS.inc()
            return predictor

    def holdings(self) -> Holdings:
        """What is loaded now."""
        with self._shelf:
            sizes = [predictor.memory_bytes for predictor in self._loaded.values()]
        return Holdings(len(sizes), sum(sizes), self._memory_bytes)

    def forget(self, version: Loadable) -> None:
        """Let a version go; who computes with it goes on."""
        with self._shelf:
            self._loaded.pop(version.id, None)

    def _take(self, version: Loadable) -> "Predictor | None":
        with self._shelf:
            if (predictor := self._loaded.get(version.id)) is not None:
                self._loaded.move_to_end(version.id)
            return predictor

    def _read(self, version: Loadable) -> "Predictor":
        try:
            path = self._storage.fetch(version.project_id, version.sha256, version.size_bytes)
        except CorruptArtifact as error:
            raise _unloadable(version, error) from error
        try:
            predictor = models.load(path)
        except models.CheckpointError as error:
            raise _unloadable(version, error) from error
        if predictor.memory_bytes > self._memory_bytes:
            detail = (
                f"{_name(version)} takes {predictor.memory_bytes} bytes of memory, "
                f"an engine has {self._memory_bytes} (SENSORIUM_INFERENCE_MEMORY_BYTES)"
            )
            raise Exhausted("engine_out_of_memory", detail)
        log.info(f"kernels of {_name(version)}: {models.in_words(predictor.kernels)}")
        self._use_threads()
        predictor.warm_up()
        garbage_collection.freeze()  # torch, if this is the first
        return predictor

    def _use_threads(self) -> None:
        """OpenMP asks every thread of ours by itself how many more it may use."""
        if not getattr(self._told, "threads", 0):
            models.use_threads(self._threads)
            self._told.threads = self._threads


def _answer(predictor: "Predictor", question: Question, rows: Rows, state: Array | None) -> Tree:
    given = rows.values, rows.present, rows.lengths
    asked = question.arguments
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
        case "sample":
            return predictor.sample(rows.count, **asked)


def _name(version: Loadable) -> str:
    return f"model {version.model!r} version {version.number}"


def _unloadable(version: Loadable, error: Exception) -> Damaged:
    return Damaged("artifact_corrupt", f"{_name(version)} cannot be loaded: {error}")
