"""Constraints of the tables, on both databases."""

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from service.jobs import operations as jobs
from service.jobs.tables import Job
from service.shared.database import Database
from service.shared.table_base import new_id


def test_ids_have_their_prefix_and_are_unique() -> None:
    ids = {new_id("run") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(id.startswith("run_") and len(id) == 30 for id in ids)


@pytest.mark.parametrize(
    "wrong", [{"state": "sleeping"}, {"state": "running"}, {"progress": 1.5}, {"progress": -0.1}], ids=str
)
def test_an_inconsistent_job_row_is_refused(database: Database, project_id: str, wrong: dict[str, object]) -> None:
    with database.writer.begin() as session:
        job_id = jobs.create(session, project_id, "test", "data").id
    with pytest.raises(IntegrityError), database.writer.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**wrong))
