"""Keeps the queue of an API without `infer` workers full."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.conftest import wait_until
from tests.contract.error_target import Answer, Target
from tests.contract.provocations import model_requests
from tests.contract.provocations.case import Case

ONE_WAITS = {"SENSORIUM_INFERENCE_QUEUE": "1", "SENSORIUM_INFERENCE_BATCHES": "1"}
"""Settings with which one request waits beside the batch under way."""
CALLERS = 3
PAUSE_SECONDS = 0.02


@contextmanager
def kept_busy(target: Target) -> Iterator[None]:
    """Ask again and again while the block runs. A batch without answer leaves room after 1 s, which a caller takes."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(PAUSE_SECONDS):
            path = f"/v1/models/{model_requests.NAME}/versions/1/sample"
            target.ask("POST", path, json={"rows": 1, "steps": 1})

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(ask) for _ in range(CALLERS)]
        try:
            yield
        finally:
            ended.set()
    for caller in callers:
        caller.result()


def busy(target: Target, case: Case) -> Answer:
    """The answer of a full queue; a request that has found a place in it waits in vain, and is sent again."""
    answers: list[Answer] = []

    def is_refused() -> bool:
        answers.append(model_requests.ask(target, case))
        return b"inference_unavailable" not in answers[-1][2]

    wait_until(is_refused, 30, "the queue is full")
    return answers[-1]
