"""The part of one process in moving aliases: its engine loads the pending versions, then the aliases move."""

import os
import socket
import threading

import structlog

from service.inference.engine import Engine
from service.inference.queries import Loadable
from service.registry import alias_rollout
from service.registry.alias_rollout import VersionToLoad
from service.shared.database import Database
from service.shared.errors import SensoriumError
from service.shared.settings import Settings

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
BEAT_SECONDS = alias_rollout.ALIVE_SECONDS / 4


class EngineHost:
    """Runs in every process with an engine, and in every API process."""

    def __init__(self, database: Database, engine: Engine | None, settings: Settings) -> None:
        self._database = database
        self._engine = engine
        self._memory_bytes = settings.inference_memory_bytes
        self._warm_timeout_seconds = settings.warm_timeout_seconds
        self._id: str | None = None
        self._registering = threading.Lock()
        self._has_loaded_named = False

    def beat(self) -> None:
        """Record a heartbeat of the engine. It runs on a thread of its own, because a version may take long to load."""
        if self._engine is None:
            return
        with self._registering, self._database.writer.begin() as session:
            if self._id is None or not alias_rollout.beat(session, self._id):
                self._id = alias_rollout.register(session, socket.gethostname(), os.getpid())

    def tick(self) -> None:
        """Load the pending versions, then move the aliases whose versions all engines have loaded."""
        if self._engine is not None and not self._has_loaded_named:
            if self._id is None:
                self.beat()
            self._has_loaded_named = True
            self._load_named(self._engine)
        with self._database.reader() as session:
            if not alias_rollout.has_pending(session):
                return
        if self._engine is not None and self._id is not None:
            self._load_pending(self._engine, self._id)
        with self._database.writer.begin() as session:
            moved = alias_rollout.move(session, self._warm_timeout_seconds)
        for alias in moved:
            log.info("alias_moved" if alias.error is None else "alias_move_failed", **alias._asdict())

    def close(self) -> None:
        """Unregister the engine, so that no alias waits for it."""
        if self._id is not None:
            with self._database.writer.begin() as session:
                alias_rollout.unregister(session, self._id)

    def _load_named(self, engine: Engine) -> None:
        """Load the versions that aliases name when the engine starts, so that their first callers do not wait."""
        with self._database.reader() as session:
            named = alias_rollout.named(session)
        room = self._memory_bytes
        for version in named:
            room -= version.size_bytes
            if room > 0:
                self._load(engine, version)

    def _load_pending(self, engine: Engine, engine_id: str) -> None:
        with self._database.reader() as session:
            versions = alias_rollout.pending(session, engine_id)
        for version in versions:
            error = self._load(engine, version)
            with self._database.writer.begin() as session:
                alias_rollout.report(session, engine_id, version.version_id, error)

    def _load(self, engine: Engine, version: VersionToLoad) -> str | None:
        """Load a version; returns the error if that fails."""
        try:
            engine.load(Loadable(*version))
        except SensoriumError as error:
            log.warning("version_load_failed", model=version.model, version=version.number, error=error.detail)
            return error.detail
        except MemoryError:
            log.exception("version_load_failed", model=version.model, version=version.number)
            return "the version needs more memory than an inference process has"
        except Exception:  # for example a full disk; the other versions are loaded
            log.exception("version_load_failed", model=version.model, version=version.number)
            return "an inference process failed to load the version; its log has the reason"
        return None
