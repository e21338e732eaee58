"""Random orders of API calls, workers, reconciler and time: final states never change, no job is lost or repeated."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.access import operations as access
from service.access.tables import Project
from service.jobs import operations as jobs
from service.jobs.operations import Claim, Lost, Progress
from service.jobs.tables import FINAL_STATES, Job, JobEvent
from service.shared.database import Database
from service.shared.errors import Conflict
from service.shared.events import Event, Resource
from service.shared.storage.tables import Artifact
from service.shared.table_base import new_id

WORKERS = st.sampled_from(["wrk_1", "wrk_2"])
SOME = Progress("training", 0.5, None)
FAULT = {"code": "process_died", "detail": "it was killed"}
STATES = {"queued": "queued", "requeued": "queued", "started": "running"}
"""The state that an event tells of, where it has another name."""


class Life(RuleBasedStateMachine):
    """Jobs, the claims of two workers, and the observed states of each job. A result is an artifact's row."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, list[Claim]] = {"wrk_1": [], "wrk_2": []}
        self.seen: dict[str, tuple[str, int]] = {}

    def change(self, what: Callable[[Session], Any]) -> Any:
        with self.database.writer.begin() as session:
            return what(session)

    @initialize()
    def begin(self) -> None:
        with self.database.writer.begin() as session:
            for table in (Event, JobEvent, Job, Artifact, Project):
                session.execute(delete(table))
            self.project_id = access.create_project(session, "machine").id

    @rule(priority=st.integers(-1, 1), attempts=st.integers(1, 3), timeout=st.sampled_from([None, 1000.0]))
    def submit(self, priority: int, attempts: int, timeout: float | None) -> None:
        asked = "t", "data", priority, attempts, timeout
        resource = Resource("run", f"run_{len(self.seen)}")
        job = self.change(lambda session: jobs.create(session, self.project_id, *asked, resource=resource).id)
        self.seen[job] = ("queued", 0)

    @rule(worker=WORKERS)
    def take(self, worker: str) -> None:
        if (claim := self.change(lambda session: jobs.claim(session, "data", worker, 60))) is not None:
            self.held[worker].append(claim)

    @rule(worker=WORKERS, data=st.data())
    def beat(self, worker: str, data: st.DataObject) -> None:
        self._as_owner(worker, data, lambda session, claim: jobs.heartbeat(session, claim, 60, SOME))

    @rule(worker=WORKERS, data=st.data())
    def finish(self, worker: str, data: st.DataObject) -> None:
        def succeed(session: Session, claim: Claim) -> None:
            jobs.succeed(session, claim)
            artifact = Artifact(id=new_id("art"), project_id=self.project_id, sha256=claim.job_id, size_bytes=1)
            session.add(artifact)

        self._as_owner(worker, data, succeed)

    @rule(worker=WORKERS, data=st.data(), retry=st.sampled_from([None, 0.0]))
    def break_down(self, worker: str, data: st.DataObject, retry: float | None) -> None:
        self._as_owner(worker, data, lambda session, claim: jobs.fail(session, claim, FAULT, retry))

    @rule(worker=WORKERS, data=st.data())
    def stop_as_asked(self, worker: str, data: st.DataObject) -> None:
        def stop(session: Session, claim: Claim) -> None:
            for transition in (jobs.stop, jobs.time_out, jobs.suspend):
                transition(session, claim)

        self._as_owner(worker, data, stop)

    @rule(worker=WORKERS, data=st.data())
    def drain(self, worker: str, data: st.DataObject) -> None:
        self._as_owner(worker, data, jobs.release)

    @rule(worker=WORKERS, data=st.data())
    def lack_space(self, worker: str, data: st.DataObject) -> None:
        self._as_owner(worker, data, lambda session, claim: jobs.postpone(session, claim, "full: home", 5.0))

    @rule(data=st.data(), request=st.sampled_from([jobs.cancel, jobs.pause, jobs.resume]))
    @precondition(lambda self: self.seen)
    def ask(self, data: st.DataObject, request: Callable[[Session, str], str]) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.seen)))
        ended = self.seen[job_id][0] in FINAL_STATES
        try:
            self.change(lambda session: request(session, job_id))
        except Conflict:
            assert ended
        else:
            assert not ended

    @rule(seconds=st.sampled_from([30.0, 61.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        """Time passes: all times of the past move back."""
        with self.database.writer.begin() as session:
            for job in session.scalars(select(Job)):
                for name in ("lease_expires_at", "started_at", "not_before", "dispatch_after"):
                    if (time := getattr(job, name)) is not None:
                        setattr(job, name, time - timedelta(seconds=seconds))

    @rule()
    def reconcile(self) -> None:
        self.change(lambda session: jobs.reap(session, 0.0))
        self.change(jobs.due)

    def _as_owner(self, worker: str, data: st.DataObject, what: Callable[[Session, Claim], object]) -> None:
        """Do it with any earlier claim of the worker, which may be lost."""
        if not self.held[worker]:
            return
        claim = data.draw(st.sampled_from(self.held[worker]))
        try:
            self.change(lambda session: what(session, claim))
        except Lost:
            with self.database.reader() as session:
                job = session.get_one(Job, claim.job_id)
                assert (job.state, job.attempt) != ("running", claim.attempt) or job.cancel_requested

    @invariant()
    def history_is_kept(self) -> None:
        with self.database.reader() as session:
            found = {job.id: job for job in session.scalars(select(Job))}
            results = list(session.scalars(select(Artifact.sha256)))
        assert found.keys() == self.seen.keys()
        assert len(results) == len(set(results))
        for job_id, (state, attempt) in self.seen.items():
            job = found[job_id]
            assert job.attempt >= attempt
            if state in FINAL_STATES:
                assert (job.state, job.attempt) == (state, attempt)
            assert (job.state == "succeeded") == (job_id in results)
            assert (job.state in FINAL_STATES) == (job.finished_at is not None)
            assert (job.state == "running") == (job.owner is not None)
            self.seen[job_id] = (job.state, job.attempt)

    @invariant()
    def the_newest_event_of_a_job_tells_its_state(self) -> None:
        told: dict[str, tuple[str, int]] = {}
        with self.database.reader() as session:
            found = {job.resource_id: (job.state, job.attempt) for job in session.scalars(select(Job))}
            of_states = (
                select(Event).where(Event.resource_type == "run", Event.type != "run.changed").order_by(Event.id)
            )
            for event in session.scalars(of_states):
                verb = event.type.removeprefix("run.")
                told[event.resource_id] = STATES.get(verb, verb), event.data["attempt"]
        assert told == found

    def teardown(self) -> None:
        """Without further calls, every job that is not paused ends."""
        for _ in range(100):
            self.time_passes(2000.0)
            self.reconcile()
            while (claim := self.change(lambda session: jobs.claim(session, "data", "wrk_1", 60))) is not None:
                self.held["wrk_1"].append(claim)
                requests = self.change(lambda session, claim=claim: jobs.heartbeat(session, claim, 60, SOME))
                if requests.timed_out:
                    self.change(lambda session, claim=claim: jobs.time_out(session, claim))
                else:
                    self.change(lambda session, claim=claim: jobs.fail(session, claim, FAULT, None))
            with self.database.reader() as session:
                states = set(session.scalars(select(Job.state)))
            if states <= {*FINAL_STATES, "paused"}:
                break
        else:
            raise AssertionError(f"jobs are left {states}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_order_of_events_loses_or_repeats_a_job(database: Database) -> None:
    machine = type("LifeOnThisDatabase", (Life,), {"database": database})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=40, deadline=None))
