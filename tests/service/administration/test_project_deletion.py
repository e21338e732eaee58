"""Deletion, restoration and purge of projects on both databases: what their keys and jobs may do, and what stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from service.access import audit, deletion, idempotent_answers
from service.access import operations as access
from service.access.audit import Action, Filters
from service.access.operations import Principal
from service.access.quotas import Quotas
from service.access.tables import Project
from service.administration import operations as projects
from service.jobs import history
from service.jobs import operations as jobs
from service.jobs.operations import Progress
from service.jobs.tables import Job
from service.registry import aliases
from service.runs import operations as runs
from service.runs import training
from service.runs.schemas import RunChanges
from service.runs.training import Origin
from service.shared.database import Database, now
from service.shared.errors import Conflict, Forbidden, NotFound, SensoriumError, Unauthenticated
from service.shared.period import ANY_TIME
from service.shared.settings import Settings
from service.shared.storage import Stored, from_settings, sweep
from service.tables import METADATA
from tests.service.rows import claimed_run, queued_run, ready_dataset, uploaded

ORIGIN = Origin({"torch": "2"}, None)


@pytest.fixture(autouse=True)
def _nobody_acts() -> Iterator[None]:
    """Other tests leave an action in the context of the process."""
    token = audit.acting.set(None)
    yield
    audit.acting.reset(token)


@pytest.fixture
def operator(database: Database) -> Principal:
    """An administrator of an operator project."""
    with database.writer.begin() as session:
        project = access.create_project(session, "operators", operates=True)
        _, token = access.create_key(session, project.id, "k")
        return access.authenticate(session, token)


def delete(database: Database, caller: Principal, project_id: str) -> None:
    """What `DELETE /v1/projects/{id}` does."""
    with database.writer.begin() as session:
        projects.delete(session, caller, project_id)
    until_done(database, project_id, projects.cancel_some)


def purge(database: Database, caller: Principal, project_id: str) -> None:
    """What `DELETE /v1/projects/{id}?purge=true` does."""
    with database.writer.begin() as session:
        projects.begin_purge(session, caller, project_id)
    until_done(database, project_id, projects.purge_some)


def until_done(database: Database, project_id: str, some: object) -> int:
    """The number of transactions in which `some` had something to do."""
    count = 0
    while True:
        with database.writer.begin() as session:
            if not some(session, project_id):  # type: ignore[operator]
                return count
        count += 1


def deleted_long_ago(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        long_ago = now(-deletion.QUIET_SECONDS - 1)
        session.execute(update(Project).where(Project.id == project_id).values(deleted_at=long_ago))


def key(database: Database, project_id: str) -> str:
    with database.writer.begin() as session:
        return access.create_key(session, project_id, "k")[1]


@contextmanager
def refused(database: Database, kind: type[SensoriumError], code: str) -> Iterator[Session]:
    with pytest.raises(kind) as caught, database.writer.begin() as session:
        yield session
    assert caught.value.code == code


def states(database: Database, project_id: str) -> list[tuple[str, bool]]:
    with database.reader() as session:
        query = select(Job.state, Job.cancel_requested).where(Job.project_id == project_id, Job.kind == "train")
        return sorted((state, asked) for state, asked in session.execute(query))


def test_keys_of_a_deleted_project_are_refused_until_it_is_restored(
    database: Database, project_id: str, operator: Principal
) -> None:
    token, revoked = key(database, project_id), key(database, project_id)
    with database.writer.begin() as session:
        key_id = access.authenticate(session, token).key_id
        access.revoke_key(session, project_id, access.authenticate(session, revoked).key_id)
    delete(database, operator, project_id)
    with refused(database, Unauthenticated, "invalid_api_key") as session:
        access.authenticate(session, token)
    with database.writer.begin() as session:
        assert access.keys_with(session, "read", {key_id, operator.key_id}) == {operator.key_id}
        assert projects.restore(session, operator, project_id).deleted_at is None
    with database.reader() as session:
        assert access.authenticate(session, token).project_id == project_id
        assert access.keys_with(session, "read", {key_id}) == {key_id}
    with refused(database, Unauthenticated, "invalid_api_key") as session:
        access.authenticate(session, revoked)


def test_jobs_of_a_deleted_project_are_cancelled_and_not_claimed(
    database: Database, project_id: str, operator: Principal
) -> None:
    claim = claimed_run(database, project_id)
    for _ in range(projects.AT_ONCE + 1):
        queued_run(database, project_id)
    with database.writer.begin() as session:
        projects.delete(session, operator, project_id)
    with database.writer.begin() as session:
        assert jobs.claim(session, runs.QUEUE, "wrk_2", 60) is None
    assert until_done(database, project_id, projects.cancel_some) == 2
    assert set(states(database, project_id)) == {("cancelled", True), ("running", True)}
    with database.writer.begin() as session:
        assert jobs.heartbeat(session, claim, 60, Progress("training", 0.5, None)).cancel
        jobs.release(session, claim)  # the worker shuts down before it has stopped the trainer
    assert until_done(database, project_id, projects.cancel_some) == 1
    assert set(states(database, project_id)) == {("cancelled", True)}


def test_a_change_that_commits_after_the_deletion_of_its_project_is_refused(
    database: Database, project_id: str, operator: Principal
) -> None:
    delete(database, operator, project_id)
    audit.attach(database.writer)
    authenticated_before = Action(project_id, "key_1", "create_api_key", "/v1/api-keys")
    token = audit.acting.set(authenticated_before)
    with refused(database, Unauthenticated, "invalid_api_key") as session:
        access.create_key(session, project_id, "late")
    audit.acting.reset(token)
    with database.reader() as session:
        assert access.list_keys(session, project_id, ANY_TIME, None, 10) == []
        assert audit.list_events(session, project_id, Filters(), None, 10) == []


def test_only_operators_delete_projects_and_not_their_own(
    database: Database, project_id: str, operator: Principal
) -> None:
    own, foreign = key(database, project_id), Principal("prj_other", "key_other", frozenset(["admin"]))
    with database.reader() as session:
        member = access.authenticate(session, own)
    for call in (projects.delete, projects.restore, projects.begin_purge):
        with refused(database, NotFound, "project_not_found") as session:
            call(session, foreign, project_id)
        with refused(database, Forbidden, "operator_required") as session:
            call(session, member, project_id)
        with refused(database, NotFound, "project_not_found") as session:
            call(session, operator, "prj_none")
    for call in (projects.delete, projects.begin_purge):
        with refused(database, Conflict, "own_project") as session:
            call(session, operator, operator.project_id)


def test_a_deleted_project_is_hidden_and_keeps_its_name(
    database: Database, project_id: str, operator: Principal
) -> None:
    delete(database, operator, project_id)
    with database.writer.begin() as session:
        assert [row.name for row in access.list_projects(session, operator, False, ANY_TIME, None, 10)] == ["operators"]
        assert [row.name for row in access.list_projects(session, operator, True, ANY_TIME, None, 10)] == ["test"]
        first = access.get_project(session, operator, project_id).deleted_at
        projects.delete(session, operator, project_id)
        assert access.get_project(session, operator, project_id).deleted_at == first
    with refused(database, Conflict, "project_exists") as session:
        access.create_project(session, "test")


def test_a_project_is_purged_only_after_its_deletion_and_the_end_of_its_jobs(
    database: Database, project_id: str, operator: Principal
) -> None:
    claim = claimed_run(database, project_id)
    with refused(database, Conflict, "project_not_deleted") as session:
        projects.begin_purge(session, operator, project_id)
    delete(database, operator, project_id)
    with refused(database, Conflict, "project_in_use") as session:
        projects.begin_purge(session, operator, project_id)
    deleted_long_ago(database, project_id)
    with refused(database, Conflict, "project_in_use") as session:
        projects.begin_purge(session, operator, project_id)
    with database.writer.begin() as session:
        jobs.stop(session, claim)
        assert projects.restore(session, operator, project_id).name == "test"  # the refused purges changed nothing
    delete(database, operator, project_id)
    deleted_long_ago(database, project_id)
    purge(database, operator, project_id)
    for call in (projects.restore, projects.delete):
        with refused(database, NotFound, "project_not_found") as session:
            call(session, operator, project_id)
    with database.writer.begin() as session:
        assert access.list_projects(session, operator, True, ANY_TIME, None, 10) == []
        assert access.create_project(session, "test").id != project_id


def filled(database: Database, name: str) -> str:
    """The id of a project with rows in every table that a project may have rows in."""
    with database.writer.begin() as session:
        project_id = access.create_project(session, name, Quotas(queued_runs=99)).id
        access.create_key(session, project_id, "k")
        idempotent_answers.keep(session, project_id, "once", "0" * 64, {})
        audit.record(session, Action(project_id, None, "create_run", "/v1/runs"))
    claim = claimed_run(database, project_id)
    with database.writer.begin() as session:
        assigned = training.assignment(session, claim)
        training.record_metrics(session, assigned.run_id, 1, 1, 1, {"loss": 1.0})
        checkpoint = Stored(project_id, "c" * 64, 5)
        training.record_checkpoint(session, assigned.run_id, 1, checkpoint, None, 1, "epoch", ORIGIN)
        training.complete(session, assigned, Stored(project_id, "d" * 64, 5), None, {"loss": 1.0}, None, [], ORIGIN)
        jobs.succeed(session, claim)
        history.record_log(session, claim.job_id, 1, "said")
        aliases.put(session, project_id, "m", "live", 1, None, False)
    ready_dataset(database, project_id)
    queued = queued_run(database, project_id)
    with database.writer.begin() as session:
        runs.change(session, project_id, assigned.run_id, RunChanges(tags=["t"]))
        runs.cancel(session, project_id, queued)  # otherwise it would be claimed for another project's
    return project_id


def counts(database: Database) -> dict[str, int]:
    with database.reader() as session:
        tables = METADATA.tables.items()
        return {name: session.scalar(select(func.count()).select_from(table)) or 0 for name, table in tables}


def test_a_purge_removes_every_row_of_its_project_and_none_of_another(
    database: Database, operator: Principal, tmp_path: Path
) -> None:
    storage = from_settings(Settings(home=tmp_path))
    kept = filled(database, "kept")
    before = counts(database)
    gone = filled(database, "gone")
    added = {name for name, count in counts(database).items() if count > before[name]}
    assert added >= {"runs", "run_metrics", "run_tags", "run_checkpoints", "run_latest_metrics", "idempotency_keys"}
    assert added >= {"models", "model_versions", "aliases", "jobs", "job_events", "job_logs", "artifacts"}
    assert added >= {"uploads", "datasets", "dataset_versions", "api_keys", "projects", "audit_events"}
    delete(database, operator, gone)
    deleted_long_ago(database, gone)
    purge(database, operator, gone)
    while sweep(database, storage):
        pass
    after = counts(database)
    remaining = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert remaining == {"projects": 1, "audit_events": 1}
    with database.reader() as session:
        row = session.get_one(Project, gone)
        assert (row.name, row.purged_at is not None) == (gone, True)
        (event,) = audit.list_events(session, gone, Filters(), None, 10)
        assert event.action == "create_run"
        assert access.get_project(session, operator, kept).name == "kept"


def test_a_purge_has_bounded_transactions_and_can_be_repeated_after_an_interruption(
    database: Database, project_id: str, operator: Principal
) -> None:
    for _ in range(2 * projects.AT_ONCE + 1):
        uploaded(database, project_id)
    delete(database, operator, project_id)
    deleted_long_ago(database, project_id)
    with database.writer.begin() as session:
        projects.begin_purge(session, operator, project_id)
    before = counts(database)
    with database.writer.begin() as session:
        assert projects.purge_some(session, project_id)
    assert before["uploads"] - counts(database)["uploads"] == projects.AT_ONCE
    purge(database, operator, project_id)
    assert counts(database)["uploads"] == 0


def test_the_audit_trail_of_a_purged_project_cannot_be_deleted(
    database: Database, project_id: str, operator: Principal
) -> None:
    with database.writer.begin() as session:
        audit.record(session, Action(project_id, None, "create_run", "/v1/runs"))
    delete(database, operator, project_id)
    deleted_long_ago(database, project_id)
    purge(database, operator, project_id)
    with pytest.raises(Exception, match=r"never changed"), database.writer.begin() as session:
        session.execute(text("DELETE FROM audit_events"))
