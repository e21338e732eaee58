"""The Celery process that serves one queue. `sensorium worker QUEUE` becomes it."""

import sys

from celery import signals

from service.jobs.reconciler import Reconciler
from service.lineage import expiry
from service.runs import operations as runs
from service.shared import broker, parent_process, startup_checks
from service.shared.broker_health import BrokerWatch
from service.shared.database import Database
from service.shared.disk_space import SpaceCollector
from service.shared.errors import Misconfigured
from service.shared.periodic_thread import PeriodicThread
from service.shared.settings import Settings, log_settings
from service.shared.startup_checks import read_settings
from service.shared.storage import from_settings
from service.shared.telemetry import configure_logging
from worker import celery_consumer, inference, presence, supervisor, watchdog
from worker.child_process import Launcher
from worker.health import HealthServer
from worker.jobs.train import TrainJob
from worker.metrics import LeaseCollector
from worker.worker_state import WorkerState


def main(queue: str) -> None:
    """Serve a queue until SIGTERM."""
    if queue not in broker.WORKER_QUEUES:
        raise Misconfigured([f"there is no queue {queue!r}, expected one of {', '.join(broker.WORKER_QUEUES)}"])
    settings = read_settings()
    startup_checks.check(settings)
    if settings.exit_with_stdin:
        parent_process.end_with_stdin()
    signals.setup_logging.connect(_keep_logging, weak=False)
    database = Database(settings.database_url, settings.reserve_bytes)
    try:
        with presence.registered(database, settings, queue) as owner:
            if queue == broker.INFER:
                inference.serve(settings, database, owner)
            else:
                serve_jobs(settings, database, owner, queue)
    finally:
        database.close()


def serve_jobs(settings: Settings, database: Database, owner: str, queue: str) -> None:
    """Run the jobs of a queue until SIGTERM; then requeue the current job."""
    messages = broker.connect(settings)
    spare = TrainJob.program if queue == runs.QUEUE else None
    launcher = Launcher(settings.log_bytes, spare, settings.log_json)
    worker = WorkerState(settings, database, from_settings(settings), messages, owner, launcher)
    launcher.prepare()
    supervisor.register(messages, worker)
    repairs = Reconciler(settings, database, worker.storage, messages, expiry.purge)
    # Messages wake the worker up at once. This thread finds work whose message was lost or never sent.
    work = PeriodicThread("work", settings.reconcile_seconds, lambda: supervisor.work(worker, queue))
    short = [
        PeriodicThread("presence", presence.BEAT_SECONDS, lambda: presence.beat(database, owner, worker.job_id)),
        PeriodicThread("watchdog", settings.stalled_seconds / 4, lambda: watchdog.exit_if_stalled(worker, queue)),
        PeriodicThread("reconciler", settings.reconcile_seconds, repairs.tick),
    ]

    def drain(**_: object) -> None:
        worker.draining.set()

    signals.worker_shutting_down.connect(drain, weak=False)
    for thread in (work, *short):
        thread.start()
    collectors = [LeaseCollector(worker), SpaceCollector(worker.storage.space)]
    dependencies = {"broker": BrokerWatch(settings.broker_url).answers, "database": database.answers}
    # /healthz does not check `work`, whose tick runs complete jobs, which may take hours.
    health = HealthServer(settings, short, collectors, dependencies)
    signals.worker_ready.connect(health.mark_started, weak=False)
    try:
        celery_consumer.consume(messages, queue, owner)
    finally:
        worker.draining.set()
        for thread in (work, *short):
            thread.close()
        launcher.close()
        health.close()


def _keep_logging(**_: object) -> None:
    """Logging is configured already. Celery leaves it alone when this signal has a receiver."""


if __name__ == "__main__":
    configure_logging(log_settings())
    with startup_checks.exit_with_message():
        main(sys.argv[1])
