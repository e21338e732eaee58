"""Being a Celery worker of one queue."""

from celery import Celery

PRESENCE_SECONDS = 15.0


def consume(messages: Celery, queue: str, owner: str, threads: int = 1) -> None:
    """Take messages until SIGTERM."""
    messages.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={queue}",
            f"--hostname={owner}@%h",
            "--pool=threads",  # a training is a child process; a pool process could not start one
            f"--concurrency={threads}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
