"""`sensorium worker`: start a worker process, which claims jobs or computes inference."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()


class WorkerQueue(StrEnum):
    """The queues as an enumeration, so that typer lists them as choices."""

    TRAIN = "train"
    DATA = "data"
    INFER = "infer"


@app.command()
def worker(queue: Annotated[WorkerQueue, typer.Argument(help="The queue to serve.")]) -> None:
    """Serve one queue until SIGTERM: train runs, convert uploads, or compute batches of inference."""
    # `service` must not import `worker`. exec keeps the process id, so that signals reach the worker.
    os.execv(sys.executable, [sys.executable, "-m", "worker.app", queue])  # noqa: S606
