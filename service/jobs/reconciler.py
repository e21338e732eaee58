"""Recovers from lost messages and processes: sends wake-ups again (T2), reaps lost jobs (T8), deletes old data.

It runs periodically in every API and worker process, and uses only SQL, so that any number of processes may run it.
"""

import time
from collections.abc import Callable

import structlog
from celery import Celery
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.access import idempotent_answers
from service.jobs import operations as jobs
from service.shared import broker, events
from service.shared.database import Database
from service.shared.outage_log import DATABASE, REQUESTS
from service.shared.settings import Settings
from service.shared.storage import Storage, sweep

log = structlog.get_logger(__name__)


Purge = Callable[[Session, float], None]


class Reconciler:
    """Reaps no job until the database has been reachable for one lease, so that all owners can renew theirs first."""

    def __init__(
        self, settings: Settings, database: Database, storage: Storage, messages: Celery, purge: Purge
    ) -> None:
        """purge: removes what was deleted longer ago than a number of days; domains above know what that is."""
        self._settings = settings
        self._purge = purge
        self._database = database
        self._storage = storage
        self._messages = messages
        self._reachable_since: float | None = None

    def tick(self) -> None:
        """Reap, wake, sweep, and allocate the disk reserve again."""
        try:
            if self._reachable_since is not None and self._all_could_beat(self._reachable_since):
                self._reap()
            with self._database.writer.begin() as session:
                waiting = jobs.due(session)
                idempotent_answers.delete_old(session)
                events.delete_old(session, self._settings.event_days)
        except SQLAlchemyError:
            self._reachable_since = None
            raise
        self._reachable_since = self._reachable_since or time.monotonic()
        DATABASE.works(REQUESTS)
        for job_id, queue in waiting:
            if not broker.wake(self._messages, queue, job_id):
                break  # each further one would wait for the same time-out; the unsent ones are due again later
        with self._database.writer.begin() as session:
            self._purge(session, self._settings.deleted_days)
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
