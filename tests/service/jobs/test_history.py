"""The events and the log of a job."""

from service.jobs import history
from service.jobs import operations as jobs
from service.shared.database import Database


def create(database: Database, project_id: str) -> str:
    with database.writer.begin() as session:
        return jobs.create(session, project_id, "test", "data").id


def test_events_are_listed_in_order_and_in_pages(database: Database, project_id: str) -> None:
    job_id, other = create(database, project_id), create(database, project_id)
    with database.writer.begin() as session:
        for n in range(5):
            history.record_event(session, job_id, 1, "info", "note", f"note {n}", {"n": n})
            history.record_event(session, other, 1, "info", "note", "of another job")
    with database.reader() as session:
        first = history.events(session, job_id, 0, 3)
        rest = history.events(session, job_id, first[-1].id, 100)
    assert [event.message for event in [*first, *rest]] == [
        "queued for a data worker",
        *(f"note {n}" for n in range(5)),
    ]
    assert rest[-1].data == {"n": 4}


def test_the_tail_of_a_log_spans_pieces_and_attempts(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    with database.writer.begin() as session:
        for attempt in (1, 2):
            for n in range(50):
                history.record_log(session, job_id, attempt, f"{attempt}:{n:02}\n")
    with database.reader() as session:
        assert history.log_tail(session, job_id, 10) == "2:48\n2:49\n"
        assert history.log_tail(session, job_id, 7) == "8\n2:49\n"
        assert len(history.log_tail(session, job_id, 10_000)) == 100 * 5


def test_a_job_that_wrote_nothing_has_an_empty_log(database: Database, project_id: str) -> None:
    job_id = create(database, project_id)
    with database.reader() as session:
        assert history.log_tail(session, job_id, 100) == ""
