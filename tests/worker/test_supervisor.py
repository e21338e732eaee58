"""The supervisor runs a claimed job in a real child process and always commits its outcome."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Claim
from service.jobs.tables import FINAL_STATES, Job
from service.shared import broker, storage
from service.shared.database import Database, now
from service.shared.errors import StorageFull
from service.shared.settings import Settings
from service.shared.storage import CorruptArtifact, Stored
from service.shared.storage.tables import Artifact
from tests import fork_server
from tests.conftest import wait_until
from worker import supervisor
from worker.child_process import Launcher
from worker.jobs import KINDS
from worker.worker_state import WorkerState

Do = Callable[[str], str]


class Task:
    """A kind of job whose child is `tests.worker.program`."""

    program = "tests.worker.program"
    devices = 1

    def __init__(self, do: str, claim: Claim, mark: Path) -> None:
        self._do, self._claim, self._mark = do, claim, mark

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        if self._do == "corrupt":
            raise CorruptArtifact("artifact 0123 is missing from the store")
        return {"do": self._do, "mark": str(self._mark)}

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        if event["event"] == "checkpoint":
            storage.record(session, event["stored"], max_bytes)
        history.record_event(session, self._claim.job_id, self._claim.attempt, "info", "saved", str(event["n"]))

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        if self._do == "crash over a file":
            return {"code": "dataset_rejected", "detail": f"the reader {ending}"}
        return None

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        if self._do == "finish badly":
            raise ValueError("the result makes no sense")
        storage.record(session, stored, max_bytes)


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> WorkerState:
    settings = Settings(home=tmp_path, heartbeat_seconds=0.05, retry_seconds=0, trainer_stop_seconds=20)
    launcher = Launcher(settings.log_bytes, start=fork_server.start)
    return WorkerState(settings, database, storage.from_settings(settings), broker.connect(settings), "wrk_1", launcher)


@pytest.fixture
def job(worker: WorkerState, project_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Do:
    """A function that queues a job with a behaviour of `program.py` and returns its id."""

    def create(do: str) -> str:
        monkeypatch.setitem(KINDS, "task", lambda session, claim: Task(do, claim, tmp_path / "mark"))
        with worker.database.writer.begin() as session:
            return jobs.create(session, project_id, "task", "data").id

    return create


def row(worker: WorkerState, job_id: str) -> Job:
    with worker.database.reader() as session:
        return session.get_one(Job, job_id)


def log(worker: WorkerState, job_id: str) -> str:
    with worker.database.reader() as session:
        return history.log_tail(session, job_id, 100_000)


def types(worker: WorkerState, job_id: str) -> list[str]:
    with worker.database.reader() as session:
        return [event.type for event in history.events(session, job_id, 0, 100)]


def artifacts(worker: WorkerState) -> int:
    with worker.database.reader() as session:
        return len(session.scalars(select(Artifact)).all())


def scratch(worker: WorkerState) -> list[Path]:
    return list(worker.settings.scratch.iterdir())


def while_it_runs(worker: WorkerState, job_id: str, change: Callable[[], object]) -> None:
    """Run the job in a thread, call `change` after the first report of the child, and wait for the end of the job."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(supervisor.work, worker, "data")
        wait_until(lambda: working.done() or row(worker, job_id).progress > 0, what="the first report of the child")
        change()
        working.result(60)


def cancel(worker: WorkerState, job_id: str) -> None:
    with worker.database.writer.begin() as session:
        jobs.cancel(session, job_id)


def test_finished_job_leaves_its_outcome_and_no_scratch_files(worker: WorkerState, job: Do) -> None:
    job_id = job("finish")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt, found.progress, found.error) == ("succeeded", 1, 1.0, None)
    assert types(worker, job_id) == ["queued", "started", "training", "saved", "succeeded"]
    assert log(worker, job_id) == "this goes to the log\n"
    assert artifacts(worker) == 1
    assert scratch(worker) == []
    assert worker.job_id is None


def goes_on(worker: WorkerState, job_id: str) -> Job:
    """The job after its end; the worker is called until then."""

    def has_ended() -> bool:
        supervisor.work(worker, "data")
        return row(worker, job_id).state in FINAL_STATES

    wait_until(has_ended, what="the end of the job")
    return row(worker, job_id)


def test_job_that_finds_no_disk_space_waits_without_a_failure(worker: WorkerState, job: Do) -> None:
    job_id = job("find no space")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.failures, found.preemptions) == ("queued", 0, 0)
    assert found.waiting_reason == "storage_full"
    assert types(worker, job_id) == ["queued", "started", "storage_full"]
    assert scratch(worker) == []
    found = goes_on(worker, job_id)
    assert (found.state, found.failures, found.waiting_reason) == ("succeeded", 0, None)


def test_job_whose_result_cannot_be_stored_waits_without_a_failure(
    worker: WorkerState, job: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job("finish")
    adopt = worker.storage.adopt

    def refuse(project_id: str, path: Path) -> Stored:
        monkeypatch.setattr(worker.storage, "adopt", adopt)
        raise StorageFull("bucket")

    monkeypatch.setattr(worker.storage, "adopt", refuse)
    supervisor.work(worker, "data")
    assert (row(worker, job_id).state, row(worker, job_id).waiting_reason) == ("queued", "storage_full")
    found = goes_on(worker, job_id)
    assert (found.state, found.failures) == ("succeeded", 0)


def test_full_disk_stops_the_job_gracefully_and_no_other_job_is_claimed(worker: WorkerState, job: Do) -> None:
    running, other = job("wait"), job("wait")
    while_it_runs(worker, running, lambda: worker.storage.space.refused("bucket"))
    found = row(worker, running)
    assert (found.state, found.failures, found.preemptions) == ("queued", 0, 0)
    assert "stopped in order" in log(worker, running)
    supervisor.work(worker, "data")
    assert [row(worker, each).waiting_reason for each in (running, other)] == ["storage_full"] * 2
    assert row(worker, other).attempt == 0


def test_back_off_doubles_each_time_a_job_waits_for_space(worker: WorkerState, job: Do) -> None:
    job_id = job("finish")
    waits = []
    for _ in range(4):
        with worker.database.writer.begin() as session:
            session.execute(update(Job).values(not_before=now(-1)))
            claim = jobs.claim(session, "data", "wrk_1", 60)
            assert claim is not None
            jobs.postpone(session, claim, "full: storage", 5.0)
            until, at = session.execute(select(Job.not_before, now())).one()
            waits.append(round((until - at).total_seconds()))
    assert waits == [5, 10, 20, 40]
    assert row(worker, job_id).failures == 0


def test_worker_does_all_jobs_that_are_due(worker: WorkerState, job: Do) -> None:
    ids = [job("finish") for _ in range(3)]
    supervisor.work(worker, "data")
    assert [row(worker, job_id).state for job_id in ids] == ["succeeded"] * 3


def test_killed_child_is_retried_up_to_the_limit(worker: WorkerState, job: Do) -> None:
    job_id = job("die")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt, found.failures) == ("failed", 3, 3)
    assert found.error is not None
    assert found.error["code"] == "process_died"
    assert "killed by SIGKILL" in found.error["detail"]
    assert log(worker, job_id) == "this goes to the log\nlast words\n" * 3
    assert types(worker, job_id) == ["queued", *["started", "attempt_failed"] * 3]
    assert artifacts(worker) == 0
    assert scratch(worker) == []


def test_child_that_crashes_over_a_file_is_not_retried(worker: WorkerState, job: Do) -> None:
    job_id = job("crash over a file")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 1)
    assert found.error == {"code": "dataset_rejected", "detail": "the reader was killed by SIGABRT"}
    assert scratch(worker) == []


def test_crash_without_a_crash_error_is_retried(worker: WorkerState, job: Do) -> None:
    job_id = job("crash")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 3)
    assert found.error is not None
    assert found.error["code"] == "process_died"


def test_child_that_is_killed_once_succeeds_at_the_second_attempt(worker: WorkerState, job: Do) -> None:
    job_id = job("die once")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt, found.failures, found.error) == ("succeeded", 2, 1, None)


def test_child_that_ends_without_a_last_event_fails_the_attempt(worker: WorkerState, job: Do) -> None:
    job_id = job("exit")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert found.state == "failed"
    assert found.error is not None
    assert "ended with status 3" in found.error["detail"]


def test_exception_at_the_same_step_is_retried_once_and_its_traceback_is_in_the_log(
    worker: WorkerState, job: Do
) -> None:
    job_id = job("break")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 2)
    assert found.error is not None
    assert found.error["code"] == "repeated_fault"
    assert found.error["detail"].startswith("the program failed after 7 of 9 steps: the log of the job has the trace")
    assert found.error["detail"].endswith("; attempt 1 failed in the same way, so it is not tried again")
    assert log(worker, job_id).count("RuntimeError: it broke") == 2


def test_exception_at_another_step_each_time_is_retried_up_to_the_limit(worker: WorkerState, job: Do) -> None:
    job_id = job("break elsewhere")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 3)
    assert found.error is not None
    assert found.error["code"] == "fault"
    assert found.error["detail"].startswith(
        "the program failed after 3 of 9 steps: the log of the job has the traceback"
    )
    assert "RuntimeError" not in found.error["detail"]


def test_equal_errors_of_the_environment_are_retried_up_to_the_limit(worker: WorkerState, job: Do) -> None:
    job_id = job("lose the network")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 3)
    assert found.error is not None
    assert found.error["code"] == "unavailable"
    assert found.error["detail"].startswith("a file or a service that the job needs did not work: the log of the job")
    assert "ConnectionResetError: the store hung up" in log(worker, job_id)


@pytest.mark.parametrize(("do", "code"), [("bad input", "dataset_rejected"), ("refuse", "unusable_data")])
def test_bad_input_is_not_retried(worker: WorkerState, job: Do, do: str, code: str) -> None:
    job_id = job(do)
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 1)
    assert found.error is not None
    assert found.error["code"] == code
    if do == "bad input":
        assert found.error["errors"] == [{"pointer": "/a/1", "code": "bad_value", "detail": "it is NaN"}]


def test_damaged_artifact_fails_the_job_before_a_child_starts(worker: WorkerState, job: Do) -> None:
    job_id = job("corrupt")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 1)
    assert found.error is not None
    assert found.error["code"] == "artifact_corrupt"
    assert log(worker, job_id) == ""


@pytest.mark.parametrize(("do", "newest"), [("keep two checkpoints", 2), ("return to the first checkpoint", 3)])
def test_newest_checkpoint_of_a_heartbeat_is_kept_if_all_exceed_the_quota(
    worker: WorkerState, job: Do, do: str, newest: int
) -> None:
    # the heartbeat is longer than the job, so that all arrive in one
    worker.settings = worker.settings.model_copy(update={"heartbeat_seconds": 60, "project_stored_bytes": 1500})
    job_id = job(do)
    supervisor.work(worker, "data")
    assert row(worker, job_id).state == "succeeded"
    with worker.database.reader() as session:
        saved = [event.message for event in history.events(session, job_id, 0, 100) if event.type == "saved"]
    assert saved == [str(newest)]
    assert len([path for path in worker.settings.artifacts.rglob("*") if path.is_file()]) == artifacts(worker) == 2


def test_exception_in_the_supervisor_fails_the_attempt_and_not_the_worker(worker: WorkerState, job: Do) -> None:
    job_id = job("finish badly")
    supervisor.work(worker, "data")
    found = row(worker, job_id)
    assert (found.state, found.attempt) == ("failed", 2)
    assert found.error is not None
    assert found.error["code"] == "repeated_fault"
    assert found.error["detail"].startswith(
        "the program failed: the log of the worker has the traceback under reference"
    )
    assert artifacts(worker) == 0
    assert scratch(worker) == []


def test_job_of_an_unknown_kind_fails_and_the_next_job_is_done(worker: WorkerState, job: Do, project_id: str) -> None:
    with worker.database.writer.begin() as session:
        unknown = jobs.create(session, project_id, "juggle", "data", priority=9).id
    known = job("finish")
    supervisor.work(worker, "data")
    assert row(worker, unknown).state == "failed"
    assert row(worker, known).state == "succeeded"


def test_cancellation_stops_the_child(worker: WorkerState, job: Do) -> None:
    job_id = job("wait")
    while_it_runs(worker, job_id, lambda: cancel(worker, job_id))
    found = row(worker, job_id)
    assert (found.state, found.attempt, found.failures) == ("cancelled", 1, 0)
    assert found.finished_at is not None
    assert scratch(worker) == []


def test_events_and_log_of_a_stopping_child_are_saved(worker: WorkerState, job: Do) -> None:
    job_id = job("wait")
    while_it_runs(worker, job_id, lambda: cancel(worker, job_id))
    assert log(worker, job_id) == "this goes to the log\nstopped in order\n"


def test_cancellation_kills_a_child_that_ignores_sigterm(worker: WorkerState, job: Do) -> None:
    worker.settings = worker.settings.model_copy(update={"trainer_stop_seconds": 0.1})
    job_id = job("ignore")
    while_it_runs(worker, job_id, lambda: cancel(worker, job_id))
    assert row(worker, job_id).state == "cancelled"


def test_result_after_a_cancellation_is_discarded(worker: WorkerState, job: Do) -> None:
    job_id = job("finish when stopped")
    while_it_runs(worker, job_id, lambda: cancel(worker, job_id))
    assert row(worker, job_id).state == "cancelled"
    assert artifacts(worker) == 0


def test_draining_worker_returns_its_job_to_the_queue(worker: WorkerState, job: Do) -> None:
    job_id = job("wait")
    while_it_runs(worker, job_id, worker.draining.set)
    found = row(worker, job_id)
    assert (found.state, found.preemptions, found.failures, found.owner) == ("queued", 1, 0, None)
    supervisor.work(worker, "data")
    assert row(worker, job_id).attempt == 1


def test_returned_job_is_done_by_the_next_worker(worker: WorkerState, job: Do) -> None:
    job_id = job("wait")
    while_it_runs(worker, job_id, worker.draining.set)
    worker.draining = threading.Event()
    worker.owner = "wrk_2"
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(supervisor.work, worker, "data")
        wait_until(lambda: row(worker, job_id).attempt == 2, what="the second attempt")
        found = row(worker, job_id)
        cancel(worker, job_id)
        working.result(60)
    assert (found.state, found.attempt, found.owner) == ("running", 2, "wrk_2")


def test_result_during_draining_is_kept(worker: WorkerState, job: Do) -> None:
    job_id = job("finish when stopped")
    while_it_runs(worker, job_id, worker.draining.set)
    assert row(worker, job_id).state == "succeeded"
    assert artifacts(worker) == 1


def test_worker_that_lost_its_lease_stops_its_child_and_writes_nothing(
    worker: WorkerState, job: Do, tmp_path: Path
) -> None:
    job_id = job("wait")

    def lose() -> None:
        with worker.database.writer.begin() as session:
            session.get_one(Job, job_id).lease_expires_at = now(-10.0)
            session.flush()
            assert jobs.reap(session, 60) == [job_id]

    while_it_runs(worker, job_id, lose)
    found = row(worker, job_id)
    assert (found.state, found.failures, found.preemptions, found.owner) == ("queued", 1, 0, None)
    assert found.error is not None
    assert found.error["code"] == "worker_lost"
    assert types(worker, job_id) == ["queued", "started", "saved", "worker_lost"]
    assert artifacts(worker) == 0
    assert scratch(worker) == []
    assert not Path(f"/proc/{(tmp_path / 'mark').read_text()}").exists()


def test_lease_is_renewed_while_a_child_runs_for_longer_than_the_lease(worker: WorkerState, job: Do) -> None:
    worker.settings = worker.settings.model_copy(update={"lease_seconds": 5.0})
    job_id = job("wait")
    leases = set()

    def renewed() -> None:
        wait_until(lambda: leases.add(row(worker, job_id).lease_expires_at) or len(leases) > 3, what="renewals")
        cancel(worker, job_id)

    while_it_runs(worker, job_id, renewed)
    assert row(worker, job_id).state == "cancelled"


def test_progress_of_a_running_job_is_saved(worker: WorkerState, job: Do) -> None:
    job_id = job("wait")
    seen: list[Job] = []

    def look() -> None:
        seen.append(row(worker, job_id))
        cancel(worker, job_id)

    while_it_runs(worker, job_id, look)
    assert (seen[0].state, seen[0].phase, seen[0].progress, seen[0].eta_seconds) == ("running", "training", 0.25, 9.0)
    assert log(worker, job_id).startswith("this goes to the log\n")
