"""Registration, heartbeats and end of workers."""

from service.jobs import live_workers
from service.jobs import operations as jobs
from service.jobs.tables import Worker
from service.shared.database import Database


def test_a_worker_registers_beats_and_ends(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        worker_id = live_workers.register(session, "host", 42, "train", ["0"], {"torch": "2"})
        job_id = jobs.create(session, project_id, "test", "train").id
    with database.reader() as session:
        born = session.get_one(Worker, worker_id)
    assert (born.queue, born.devices, born.versions, born.stopped_at) == ("train", ["0"], {"torch": "2"}, None)
    with database.writer.begin() as session:
        live_workers.beat(session, worker_id, job_id)
    with database.reader() as session:
        busy = session.get_one(Worker, worker_id)
    assert busy.job_id == job_id
    assert busy.heartbeat_at >= born.heartbeat_at
    with database.writer.begin() as session:
        live_workers.unregister(session, worker_id)
    with database.reader() as session:
        ended = session.get_one(Worker, worker_id)
    assert ended.job_id is None
    assert ended.stopped_at is not None
