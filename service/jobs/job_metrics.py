"""Prometheus metrics of jobs and workers from SQL. All processes report the same values."""

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

# Frequent scrapes read the database only once in this time.
CACHE_SECONDS = 5.0

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
    """Reads the database at most once per CACHE_SECONDS. While the database is unreachable, it has no metrics."""

    def __init__(self, database: Database, queues: Sequence[str]) -> None:
        self._database = database
        self._queues = queues
        self._lock = Lock()
        self._cached: list[Metric] = []
        self._cached_until = 0.0
        self._outage = Outage(log, "job_metrics_failed", "job_metrics_recovered")

    def collect(self) -> Iterable[Metric]:
        """Jobs by queue and state, the age of the oldest queued job, the largest lease lag, and live workers."""
        with self._lock:
            if time.monotonic() >= self._cached_until:
                try:
                    with self._database.reader() as session:
                        self._cached = [*self._unfinished(session), *_totals(session), *self._workers(session)]
                    self._outage.works("jobs")
                except SQLAlchemyError as error:
                    self._outage.failed("jobs", error)
                    self._cached = []
                self._cached_until = time.monotonic() + CACHE_SECONDS
            return self._cached

    def _unfinished(self, session: Session) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("sensorium_jobs", "Jobs that have not ended.", labels=("queue", "state"))
        ages = GaugeMetricFamily(
            "sensorium_queue_age_seconds", "Time since the oldest queued job became due.", labels=("queue",)
        )
        lags = GaugeMetricFamily(
            "sensorium_lease_lag_seconds", "Time since the earliest lease of a running job expired.", labels=("queue",)
        )
        rows = {(queue, state): rest for queue, state, *rest in session.execute(_UNFINISHED)}
        for queue in self._queues:
            for state in _STATES:
                jobs.add_metric((queue, state), _count(rows.get((queue, state))))
            ages.add_metric((queue,), _since(rows.get((queue, "queued")), 1))
            lags.add_metric((queue,), _since(rows.get((queue, "running")), 2))
        return jobs, ages, lags

    def _workers(self, session: Session) -> Iterable[Metric]:
        alive = GaugeMetricFamily("sensorium_workers", "Live workers.", labels=("queue",))
        silent = GaugeMetricFamily(
            "sensorium_worker_silence_seconds", "Time since the oldest heartbeat of a live worker.", labels=("queue",)
        )
        rows = {queue: rest for queue, *rest in session.execute(_WORKERS)}
        for queue in (*self._queues, *sorted(rows.keys() - set(self._queues))):
            alive.add_metric((queue,), _count(rows.get(queue)))
            silent.add_metric((queue,), _since(rows.get(queue), 1))
        return alive, silent


def _totals(session: Session) -> Iterable[Metric]:
    """Sums over all jobs in the database, including ended ones. They are gauges, because jobs can be deleted."""
    names = {
        "sensorium_kept_jobs": "Jobs in the database, including ended ones.",
        "sensorium_kept_attempts": "Attempts of the jobs in the database.",
        "sensorium_kept_failures": "Attempts that failed or were lost with their worker.",
        "sensorium_kept_preemptions": "Attempts that a stopping worker requeued.",
    }
    families = [GaugeMetricFamily(name, text, labels=("kind",)) for name, text in names.items()]
    for kind, *counts in session.execute(_ALL):
        for family, count in zip(families, counts, strict=True):
            family.add_metric((kind,), int(count or 0))
    return families


def _count(row: Sequence[Any] | None) -> float:
    return float(row[0]) if row is not None else 0.0


def _since(row: Sequence[Any] | None, column: int) -> float:
    """Seconds from a column's time to the database's time in the last column; 0 if the time is null or later."""
    if row is None or row[column] is None:
        return 0.0
    return float(max(0.0, (row[-1] - row[column]).total_seconds()))
