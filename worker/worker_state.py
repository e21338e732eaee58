"""The state of a worker process: what it opens once, and what its threads share."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import Storage
from service.shared.storage.tables import Artifact
from worker.child_process import Launcher


@dataclass
class WorkerState:
    """One per process. All times are on the monotonic clock."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    owner: str
    """The id under which this worker holds jobs."""
    launcher: Launcher
    draining: threading.Event = field(default_factory=threading.Event)
    """Set when the worker has to stop: it claims no further job and requeues the current one."""
    work_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that runs jobs. A worker runs one job at a time."""
    job_id: str | None = None
    """The current job."""
    renewed_at: float | None = None
    """When the lease of `job_id` was last renewed."""
    idle_since: float = field(default_factory=time.monotonic)
    """When the last job ended, or the process began."""
    lacks_space: bool | None = None
    """Whether jobs wait for disk space; None before the first check."""

    def fetch(self, artifact: Artifact) -> Path:
        """The local file of an artifact, once its size and hash are verified. Raises CorruptArtifact."""
        return self.storage.fetch(artifact.project_id, artifact.sha256, artifact.size_bytes)
