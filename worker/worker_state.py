"""What a worker process has opened once and all its parts use."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import Storage
from service.shared.tables import Artifact
from worker.launcher import Launcher


@dataclass
class WorkerState:
    """`owner` is the id under which this worker holds jobs. `draining` is set once it was told to stop,
    `turn` is held by the thread that works; `renewed_at` is when the lease of the job at
    work was renewed last, and `idle_since` when a job was done last, both on the monotonic clock. `lacks_space` is
    whether jobs wait for space, None before that was looked at."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    owner: str
    launcher: Launcher
    draining: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)
    job_id: str | None = None
    renewed_at: float | None = None
    lacks_space: bool | None = None
    idle_since: float = field(default_factory=time.monotonic)

    def fetch(self, artifact: Artifact) -> Path:
        """The local file of an artifact, once its size and hash are verified. Raises CorruptArtifact."""
        return self.storage.fetch(artifact.project_id, artifact.sha256, artifact.size_bytes)
