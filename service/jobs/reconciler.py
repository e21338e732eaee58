"""Repairs what messages and processes lose: wakes queued jobs again (T2), reaps lost ones (T8), sweeps released files
and old answers.

It reads and writes SQL only and ticks in every API and worker process; any number of them may.
"""

import time

import structlog
from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from service.access import idempotent_answers
from service.jobs import operations as jobs
from service.shared import broker
from service.shared.database import Database
from service.shared.outage_log import DATABASE, REQUESTS
from service.shared.settings import Settings
from service.shared.storage import Storage, sweep

log = structlog.get_logger(__name__)


class Reconciler:
    """Remembers since when the database has answered: owners that were cut off too get a lease's time to come back."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, messages: Celery) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._messages = messages
        self._answers_since: float | None = None

    def tick(self) -> None:
        """Reap, wake, sweep, and hold again what was given up on a full disk."""
        try:
            if self._answers_since is not None and self._all_could_beat(self._answers_since):
                self._reap()
            with self._database.writer.begin() as session:
                waiting = jobs.due(session)
                idempotent_answers.forget_old(session)
        except SQLAlchemyError:
            self._answers_since = None
            raise
        self._answers_since = self._answers_since or time.monotonic()
        DATABASE.works(REQUESTS)
        for job_id, queue in waiting:
            if not broker.wake(self._messages, queue, job_id):
                break  # each would wait as long for a broker that is away; what was not sent is due again
        sweep(self._database, self._storage)
        if self._storage.space.full():
            self._storage.trim()
        if self._database.reserve is not None:
            self._database.reserve.allocate()

    def _all_could_beat(self, since: float) -> bool:
        return time.monotonic() - since >= self._settings.lease_seconds

    def _reap(self) -> None:
        with self._database.writer.begin() as session:
            reaped = jobs.reap(session, self._settings.retry_seconds)
        for job_id in reaped:
            log.warning("job_reaped", job_id=job_id)
