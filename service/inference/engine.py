"""Compute batches: load a version once, verify it, warm it up, and run its model on rows."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

import models
from service.inference import metrics
from service.inference.metrics import EngineUse
from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable, Tree
from service.inference.rows import Rows
from service.shared import garbage_collection
from service.shared.errors import Damaged, Exhausted, Unavailable
from service.shared.storage import CorruptArtifact, Storage

if TYPE_CHECKING:
    from models.predictor import Predictor

log = structlog.get_logger(__name__)


class Engine:
    """Keeps the most recently used versions loaded, as many as fit in `memory_bytes`.

    Threads may share it: one computes at a time, and does not wait while another loads.
    """

    def __init__(self, storage: Storage, memory_bytes: int, threads: int) -> None:
        self._storage = storage
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._per_thread = threading.local()
        self._loaded_lock = threading.Lock()
        self._loading_lock = threading.Lock()
        self._computing_lock = threading.Lock()

    def answer(self, computation: Computation, rows: Rows, state: Array | None = None) -> Tree:
        """The model's answer for all rows, as arrays; sequences are padded.

        encode: mean, standard_deviation and, for sequences, state. reconstruct and forecast: the outputs of every
        target's likelihood. impute: completed, the targets' values and distributions, and the calibration of each row.
        score: bound, kl, and log_likelihood by modality. sample: one draw per (empty) row.
        Raises Damaged, Exhausted and Unavailable.
        """
        predictor = self.load(computation.version)
        try:
            self._use_threads()
            with self._computing_lock:
                return _answer(predictor, computation, rows, state)
        except Exception as error:
            if models.ran_out_of_memory(error):
                detail = f"the engine has no memory left for {rows.count} rows; send fewer, or try again"
                raise Unavailable("engine_out_of_memory", detail) from error
            raise

    def holds(self, version: Loadable) -> bool:
        """Whether a version is loaded."""
        return version.id in self._loaded

    def load(self, version: Loadable) -> "Predictor":
        """A version, loaded and warm. Raises Damaged and Exhausted."""
        if (predictor := self._take(version)) is not None:
            return predictor
        with self._loading_lock:
            if (predictor := self._take(version)) is not None:
                return predictor
            predictor = self._read(version)
            with self._loaded_lock:
                self._loaded[version.id] = predictor
                metrics.LOADS.inc()
                while sum(loaded.memory_bytes for loaded in self._loaded.values()) > self._memory_bytes:
                    self._loaded.popitem(last=False)
                    metrics.EVICTIONS.inc()
            return predictor

    def use(self) -> EngineUse:
        """The number of loaded versions and their memory."""
        with self._loaded_lock:
            sizes = [predictor.memory_bytes for predictor in self._loaded.values()]
        return EngineUse(len(sizes), sum(sizes), self._memory_bytes)

    def unload(self, version: Loadable) -> None:
        """Free the memory of a version, after the batch that is computed with it."""
        with self._loaded_lock:
            self._loaded.pop(version.id, None)

    def _take(self, version: Loadable) -> "Predictor | None":
        with self._loaded_lock:
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
        """Limit OpenMP's threads. The limit holds for the calling thread only."""
        if not getattr(self._per_thread, "threads", 0):
            models.use_threads(self._threads)
            self._per_thread.threads = self._threads


def _answer(predictor: "Predictor", computation: Computation, rows: Rows, state: Array | None) -> Tree:
    inputs = rows.values, rows.present, rows.lengths
    arguments = computation.arguments
    match computation.operation:
        case "encode":
            latent = predictor.encode(*inputs, state)
            states = {} if latent.state is None else {"state": latent.state}
            return {"mean": latent.mean, "standard_deviation": latent.standard_deviation, **states}
        case "reconstruct":
            return predictor.reconstruct(*inputs, **arguments, state=state)
        case "impute":
            return predictor.impute(*inputs, **arguments, rows=rows.numbers, state=state)
        case "score":
            return predictor.score(*inputs, **arguments)._asdict()
        case "forecast":
            return predictor.forecast(*inputs, **arguments, state=state)
        case "sample":
            return predictor.sample(rows.count, **arguments)


def _name(version: Loadable) -> str:
    return f"model {version.model!r} version {version.number}"


def _unloadable(version: Loadable, error: Exception) -> Damaged:
    return Damaged("artifact_corrupt", f"{_name(version)} cannot be loaded: {error}")
