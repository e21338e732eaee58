"""`sensorium worker`: the processes that claim jobs and compute inference."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()


class WorkerQueue(StrEnum):
    """What a worker serves; typer offers the members of an enumeration."""

    TRAIN = "train"
    DATA = "data"
    INFER = "infer"


@app.command()
def worker(queue: Annotated[WorkerQueue, typer.Argument(help="What it serves.")]) -> None:
    """Serve one queue until SIGTERM: train runs, convert data, or compute batches of inference."""
    # The service does not import the worker. Replacing this process keeps its id: signals reach the worker itself.
    os.execv(sys.executable, [sys.executable, "-m", "worker.app", queue])  # noqa: S606
