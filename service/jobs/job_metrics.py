"""What SQL knows of jobs and workers, as metrics: the same whichever process is asked."""

import time
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.jobs.live_workers import ALIVE_SECONDS
from service.jobs.tables import FINAL_STATES, Job, Worker
from service.shared.database import Database, now
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

# Many who ask cost as much as one.
KEPT_SECONDS = 5.0

_IS_WAITING = (Job.state == "queued") & (Job.not_before <= now())
_UNFINISHED = (
    select(
        Job.queue,
        Job.state,
        func.count(),
        func.min(case((_IS_WAITING, Job.not_before))),
        func.min(case((Job.state == "running", Job.lease_expires_at))),
        now(),
    )
    .where(Job.state.not_in(FINAL_STATES))
    .group_by(Job.queue, Job.state)
)
_ALL = select(
    Job.kind, func.count(), func.sum(Job.attempt), func.sum(Job.failures), func.sum(Job.preemptions)
).group_by(Job.kind)
_WORKERS = (
    select(Worker.queue, func.count(), func.min(Worker.heartbeat_at), now())
    .where(Worker.stopped_at.is_(None), Worker.heartbeat_at > now(-ALIVE_SECONDS))
    .group_by(Worker.queue)
)
_STATES = ("queued", "running", "paused")


class JobsCollector(Collector):
    """Looks at the database now and then; while it is away, its metrics are left out."""

    def __init__(self, database: Database, queues: Sequence[str]) -> None:
        self._database = database
        self._queues = queues
        self._turn = Lock()
        self._kept: list[Metric] = []
        self._kept_until = 0.0
        self._outage = Outage(log, "jobs_not_measured", "jobs_measured_again")

    def collect(self) -> Iterable[Metric]:
        """Jobs by queue and state, how long the oldest waits, how late the latest lease is, and who is alive."""
        with self._turn:
            if time.monotonic() >= self._kept_until:
                try:
                    with self._database.reader() as session:
                        self._kept = [*self._unfinished(session), *_totals(session), *self._workers(session)]
                    self._outage.works("jobs")
                except SQLAlchemyError as error:
                    self._outage.failed("jobs", error)
                    self._kept = []
                self._kept_until = time.monotonic() + KEPT_SECONDS
            return self._kept

    def _unfinished(self, session: Session) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("sensorium_jobs", "Jobs that have not ended.", labels=("queue", "state"))
        ages = GaugeMetricFamily(
            "sensorium_queue_age_seconds", "How long the oldest queued job has been due.", labels=("queue",)
        )
        lags = GaugeMetricFamily(
            "sensorium_lease_lag_seconds", "By how much the latest running job's lease is over.", labels=("queue",)
        )
        found = {(queue, state): rest for queue, state, *rest in session.execute(_UNFINISHED)}
        for queue in self._queues:
            for state in _STATES:
                jobs.add_metric((queue, state), _count(found.get((queue, state))))
            ages.add_metric((queue,), _since(found.get((queue, "queued")), 1))
            lags.add_metric((queue,), _since(found.get((queue, "running")), 2))
        return jobs, ages, lags

    def _workers(self, session: Session) -> Iterable[Metric]:
        alive = GaugeMetricFamily("sensorium_workers", "Workers that were heard of lately.", labels=("queue",))
        silent = GaugeMetricFamily(
            "sensorium_worker_silence_seconds", "Since when the quietest of them was not heard of.", labels=("queue",)
        )
        found = {queue: rest for queue, *rest in session.execute(_WORKERS)}
        for queue in (*self._queues, *sorted(found.keys() - set(self._queues))):
            alive.add_metric((queue,), _count(found.get(queue)))
            silent.add_metric((queue,), _since(found.get(queue), 1))
        return alive, silent


def _totals(session: Session) -> Iterable[Metric]:
    """Of all jobs that are kept, ended ones too. No counters: jobs that are deleted take theirs along."""
    names = {
        "sensorium_kept_jobs": "Jobs that are kept, ended ones too.",
        "sensorium_kept_attempts": "Attempts that were made at them.",
        "sensorium_kept_failures": "Attempts of these that failed, or were lost with their worker.",
        "sensorium_kept_preemptions": "Attempts of these that a worker has given back.",
    }
    families = [GaugeMetricFamily(name, told, labels=("kind",)) for name, told in names.items()]
    for kind, *counts in session.execute(_ALL):
        for family, count in zip(families, counts, strict=True):
            family.add_metric((kind,), int(count or 0))
    return families


def _count(row: Sequence[Any] | None) -> float:
    return float(row[0]) if row is not None else 0.0


def _since(row: Sequence[Any] | None, column: int) -> float:
    """Seconds from a column's time to the database's now, the last column; 0 where there is none, or it is to come."""
    if row is None or row[column] is None:
        return 0.0
    return float(max(0.0, (row[-1] - row[column]).total_seconds()))
