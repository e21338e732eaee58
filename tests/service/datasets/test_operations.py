"""Dataset versions are numbered without gaps under concurrent requests."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from service.datasets import operations as datasets
from service.datasets.schemas import DatasetRequest, UploadSource
from service.shared.database import Database
from tests.service.rows import uploaded


def test_concurrent_requests_get_consecutive_version_numbers(database: Database, project_id: str) -> None:
    request = DatasetRequest(name="d", source=UploadSource(upload=uploaded(database, project_id)))
    start = Barrier(6)

    def create(_: int) -> int:
        start.wait()
        with database.writer.begin() as session:
            return datasets.create_version(session, project_id, request)[0].version

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(create, range(6))) == [1, 2, 3, 4, 5, 6]
