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
from worker import consumer, inference, supervisor, tasks
from worker.beacon import Beacon
from worker.children import Children
from worker.context import Context
from worker.kinds import Training, library_versions
from worker.measured import LeaseCollector

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
    spare = Training.program if queue == runs.QUEUE else None
    children = Children(settings.log_bytes, spare, settings.log_json)
    context = Context(settings, database, from_settings(settings), messages, owner, children)
    children.prepare()
    tasks.register(messages, context)

    def beat() -> None:
        with database.writer.begin() as session:
            workers.beat(session, owner, context.job_id)

    repairs = Reconciler(settings, database, context.storage, messages)
    tickers = [
        # A message wakes the worker at once; this finds the work whose message was lost, or that never came.
        Ticker("look", settings.reconcile_seconds, lambda: supervisor.work(context, queue)),
        Ticker("presence", consumer.PRESENCE_SECONDS, beat),
        Ticker("watchdog", settings.deaf_seconds / 4, lambda: end_if_deaf(context, queue)),
        Ticker("reconciler", settings.reconcile_seconds, repairs.tick),
    ]

    def drain(**_: object) -> None:
        context.draining.set()

    signals.worker_shutting_down.connect(drain, weak=False)
    for ticker in tickers:
        ticker.start()
    # the first does whole jobs, and takes as long as they do
    needs = {"broker": BrokerWatch(settings.broker_url).answers, "database": database.answers}
    beacon = Beacon(settings, tickers[1:], [LeaseCollector(context), SpaceCollector(context.storage.space)], needs)
    signals.worker_ready.connect(beacon.ready, weak=False)
    try:
        consumer.consume(messages, queue, owner)
    finally:
        context.draining.set()
        for ticker in tickers:
            ticker.close()
        children.close()
        beacon.close()
        with database.writer.begin() as session:
            workers.unregister(session, owner)
        database.close()


def end_if_deaf(context: Context, queue: str) -> None:
    """A worker that idles while SQL has long had work for it ends, for whoever runs it to start it anew."""
    patience = context.settings.deaf_seconds
    idle = context.job_id is None and time.monotonic() - context.idle_since > patience
    if not idle or context.draining.is_set():
        return
    with context.database.reader() as session:
        waits = workers.work_waits(session, queue, len(context.settings.devices), patience)
    if waits and context.job_id is None:
        log.error("worker_deaf", queue=queue, owner=context.owner)
        os._exit(1)


if __name__ == "__main__":
    configure_logging(log_settings())
    with preflight.named():
        main(sys.argv[1])
