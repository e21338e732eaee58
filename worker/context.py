"""What a worker process has opened once and all its parts use."""

import threading
import time
from dataclasses import dataclass, field

from celery import Celery

from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import Storage
from worker.children import Children


@dataclass
class Context:
    """`owner` is the id under which this worker holds jobs. `draining` is set once it was told to stop,
    `turn` is held by the thread that works; `renewed_at` is when the lease of the job at
    work was renewed last, and `idle_since` when a job was done last, both on the monotonic clock. `lacks_space` is
    whether jobs wait for space, None before that was looked at."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    owner: str
    children: Children
    draining: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)
    job_id: str | None = None
    renewed_at: float | None = None
    lacks_space: bool | None = None
    idle_since: float = field(default_factory=time.monotonic)
