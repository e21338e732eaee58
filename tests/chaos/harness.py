"""Submits runs, injects a fault every few seconds, and checks that no run is lost, duplicated or changed."""

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
from sqlalchemy import func, select

from service.jobs.tables import Job
from service.registry.tables import ModelVersion
from service.runs.tables import Run
from service.shared.storage import FolderStorage
from service.shared.storage.tables import Artifact
from tests.chaos import faults
from tests.chaos.stack import Stack, running
from tests.e2e.stack import FINAL

SEEDS = 4
TRAINING = {"epochs": 40, "batch_size": 32, "select": "last"}
MAX_SECONDS = 20 * 60
SETTLED_SECONDS = 240


@dataclass
class Outcome:
    """The counts of one pass. wrong: one sentence per violation; empty if the pass succeeded."""

    runs: int
    faults: Counter[str]
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    duplicates: int = 0
    longest_stall_seconds: float = 0.0
    seconds: float = 0.0
    attempts: int = 0
    preemptions: int = 0


class Submitter:
    """Submits runs, and retries while the API is down. The seed of a run determines its model."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.seeds: dict[str, int] = {}
        self.cancelled: set[str] = set()

    def __call__(self) -> str:
        """Queue one run. Returns its id."""
        seed = len(self.seeds) % SEEDS
        body = {"dataset": {"name": "small"}, "model": f"seed-{seed}", "seed": seed, "training": TRAINING}
        run = self._retry("POST", "/v1/runs", {**body, "max_attempts": 20})
        self.seeds[run["id"]] = seed
        return str(run["id"])

    def cancel(self, run_id: str) -> None:
        """Cancel a run; it may have ended already."""
        answer = self._stack.caller.http.post(f"/v1/runs/{run_id}/cancel")
        if answer.status_code == 202:
            self.cancelled.add(run_id)

    def _retry(self, method: str, path: str, body: Any) -> dict[str, Any]:
        # Without an idempotency key, a lost response may leave a run that is not in `seeds`; it must succeed too.
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self._stack.caller.http.request(method, path, json=body)
                if answer.status_code < 500:
                    found: dict[str, Any] = answer.raise_for_status().json()
                    return found
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path} got no response below 500 within 60 s")
            time.sleep(0.3)


def inject_faults(
    runs: int, settings: Mapping[str, str], every_seconds: float, workers: int = 2, seed: int = 0
) -> Outcome:
    """One pass: an undisturbed run per seed, then `runs` runs with a fault every `every_seconds`."""
    chance = random.Random(seed)
    started_at = time.monotonic()
    with running(settings, workers) as stack:
        submit = Submitter(stack)
        stack.submit = submit
        stack.caller.dataset("small")
        expected = _undisturbed(stack, submit)
        outcome = Outcome(runs, Counter())
        deck: list[faults.Fault] = []
        last_change, next_fault = time.monotonic(), time.monotonic() + every_seconds
        finished = -1
        while True:
            while len(submit.seeds) - SEEDS < runs and _unfinished(stack) < 12:
                run_id = submit()
                if chance.random() < 0.05:
                    submit.cancel(run_id)
            done = _finished(stack)
            if done is not None and done != finished:
                outcome.longest_stall_seconds = max(outcome.longest_stall_seconds, time.monotonic() - last_change)
                finished, last_change = done, time.monotonic()
            left = max(0, runs + SEEDS - len(submit.seeds)) + _unfinished(stack)
            if left == 0:
                break
            if time.monotonic() - last_change > SETTLED_SECONDS or time.monotonic() - started_at > MAX_SECONDS:
                outcome.wrong.append(f"no run has ended for {time.monotonic() - last_change:.0f} s")
                break
            if left > 2 and time.monotonic() > next_fault:
                deck = deck or chance.sample(list(faults.EVERY), len(faults.EVERY))
                fault = deck.pop()
                if fault(stack, chance):
                    outcome.faults[fault.__name__] += 1
                next_fault = time.monotonic() + every_seconds
            time.sleep(0.2)
        outcome.seconds = time.monotonic() - started_at
        _verify(stack, submit, expected, outcome)
    return outcome


def _undisturbed(stack: Stack, submit: Submitter) -> dict[int, str]:
    """The digest of each seed's model, trained without faults."""
    ids = [submit() for _ in range(SEEDS)]
    for run_id in ids:
        stack.caller.wait_for_state(run_id, *FINAL)
    with stack.database.reader() as session:
        query = select(Run.seed, Artifact.sha256).join(ModelVersion, ModelVersion.run_id == Run.id)
        return {row.seed: row.sha256 for row in session.execute(query.join(Artifact))}


def _unfinished(stack: Stack) -> int:
    return _count(stack, Job.state.not_in(FINAL)) or 0


def _finished(stack: Stack) -> int | None:
    return _count(stack, Job.state.in_(FINAL))


def _count(stack: Stack, condition: Any) -> int | None:
    while True:
        try:
            with stack.database.reader() as session:
                return session.scalar(select(func.count()).select_from(Job).where(Job.kind == "train", condition))
        except Exception:  # the database is restarting
            time.sleep(0.3)


def _verify(stack: Stack, submit: Submitter, expected: Mapping[int, str], outcome: Outcome) -> None:
    storage = FolderStorage(stack.home / "artifacts")
    with stack.database.reader() as session:
        rows = session.execute(select(Run, Job).join(Job, Job.id == Run.job_id)).all()
        versions = session.execute(
            select(ModelVersion.run_id, Artifact).join(Artifact, Artifact.id == ModelVersion.artifact_id)
        ).all()
    version_counts = Counter(run_id for run_id, _ in versions)
    digests = {row.run_id: row.Artifact for row in versions}
    by_id = {run.id: (run, job) for run, job in rows}
    for run_id in submit.seeds:
        if run_id not in by_id:
            outcome.lost += 1
            outcome.wrong.append(f"{run_id} has no row")
    for run, job in rows:
        outcome.attempts += job.attempt
        outcome.preemptions += job.preemptions
        allowed = ("succeeded", "cancelled") if run.id in submit.cancelled else ("succeeded",)
        if job.state not in allowed:
            outcome.lost += 1
            outcome.wrong.append(f"{run.id} is {job.state}: {job.error}")
        if version_counts[run.id] != (job.state == "succeeded"):
            outcome.duplicates += version_counts[run.id] > 1
            outcome.wrong.append(f"{run.id} is {job.state} and has {version_counts[run.id]} versions")
        if job.state == "succeeded":
            artifact = digests[run.id]
            storage.fetch(artifact.project_id, artifact.sha256, artifact.size_bytes)
            if artifact.sha256 != expected[run.seed]:
                outcome.wrong.append(
                    f"{run.id} (attempt {job.attempt}) has weights that differ from an undisturbed run"
                )
    for fault in faults.EVERY:
        if not outcome.faults[fault.__name__]:
            outcome.wrong.append(f"{fault.__name__} was never injected")
