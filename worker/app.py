"""`sensorium worker QUEUE` becomes this: the Celery process that serves one queue."""

import os
import platform
import socket
import sys
import time

import structlog
from celery import signals

from service.jobs import workers
from service.jobs.reconciler import Reconciler
from service.runs import operations as runs
from service.shared import broker, lifeline, preflight
from service.shared.broker_watch import BrokerWatch
from service.shared.database import Database
from service.shared.errors import Misconfigured
from service.shared.preflight import read_settings
from service.shared.settings import Settings, log_settings
from service.shared.space import SpaceCollector
from service.shared.storage import from_settings
from service.shared.telemetry import configure_logging
from service.shared.ticker import Ticker
from worker import celery_consumer, inference, supervisor, tasks
from worker.health import HealthServer
from worker.jobs.train import TrainJob
from worker.launcher import Launcher
from worker.metrics import LeaseCollector
from worker.versions import library_versions
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


def main(queue: str) -> None:
    """Serve a queue until SIGTERM."""
    if queue not in broker.WORKER_QUEUES:
        raise Misconfigured([f"there is no queue {queue!r}, expected one of {', '.join(broker.WORKER_QUEUES)}"])
    settings = read_settings()
    preflight.check(settings)
    if settings.exit_with_stdin:
        lifeline.end_with_stdin()
    signals.setup_logging.connect(keep_logging, weak=False)
    if queue == broker.INFER:
        inference.main(settings)
    else:
        do_jobs(settings, queue)


def keep_logging(**_: object) -> None:
    """Logging is configured; Celery leaves it alone when somebody listens to this."""


def do_jobs(settings: Settings, queue: str) -> None:
    """Do the jobs of a queue; on SIGTERM give back what is under way."""
    messages = broker.connect(settings)
    database = Database(settings.database_url, settings.reserve_bytes)
    versions = {"python": platform.python_version(), **library_versions()}
    host, devices = socket.gethostname(), settings.devices
    with database.writer.begin() as session:
        owner = workers.register(session, host, os.getpid(), queue, devices, versions)
    spare = TrainJob.program if queue == runs.QUEUE else None
    launcher = Launcher(settings.log_bytes, spare, settings.log_json)
    worker = WorkerState(settings, database, from_settings(settings), messages, owner, launcher)
    launcher.prepare()
    tasks.register(messages, worker)

    def beat() -> None:
        with database.writer.begin() as session:
            workers.beat(session, owner, worker.job_id)

    repairs = Reconciler(settings, database, worker.storage, messages)
    tickers = [
        # A message wakes the worker at once; this finds the work whose message was lost, or that never came.
        Ticker("look", settings.reconcile_seconds, lambda: supervisor.work(worker, queue)),
        Ticker("presence", celery_consumer.PRESENCE_SECONDS, beat),
        Ticker("watchdog", settings.deaf_seconds / 4, lambda: end_if_deaf(worker, queue)),
        Ticker("reconciler", settings.reconcile_seconds, repairs.tick),
    ]

    def drain(**_: object) -> None:
        worker.draining.set()

    signals.worker_shutting_down.connect(drain, weak=False)
    for ticker in tickers:
        ticker.start()
    # the first does whole jobs, and takes as long as they do
    needs = {"broker": BrokerWatch(settings.broker_url).answers, "database": database.answers}
    health = HealthServer(settings, tickers[1:], [LeaseCollector(worker), SpaceCollector(worker.storage.space)], needs)
    signals.worker_ready.connect(health.ready, weak=False)
    try:
        celery_consumer.consume(messages, queue, owner)
    finally:
        worker.draining.set()
        for ticker in tickers:
            ticker.close()
        launcher.close()
        health.close()
        with database.writer.begin() as session:
            workers.unregister(session, owner)
        database.close()


def end_if_deaf(worker: WorkerState, queue: str) -> None:
    """A worker that idles while SQL has long had work for it ends, for whoever runs it to start it anew."""
    patience = worker.settings.deaf_seconds
    idle = worker.job_id is None and time.monotonic() - worker.idle_since > patience
    if not idle or worker.draining.is_set():
        return
    with worker.database.reader() as session:
        waits = workers.work_waits(session, queue, len(worker.settings.devices), patience)
    if waits and worker.job_id is None:
        log.error("worker_deaf", queue=queue, owner=worker.owner)
        os._exit(1)


if __name__ == "__main__":
    configure_logging(log_settings())
    with preflight.named():
        main(sys.argv[1])
