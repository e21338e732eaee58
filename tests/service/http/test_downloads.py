"""Files are sent whole or in part; a range that cannot be satisfied is refused with a problem document."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import dataset, pictures, problem, queue_run

DATASET = "/v1/datasets/pictures/versions/1/content?format=stored"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a dataset and a run that keeps checkpoints."""
    home: Path = tmp_path_factory.mktemp("downloads")
    with running(Settings(home=home)) as service:
        dataset(service, "pictures", **pictures(40))
        yield service


@pytest.fixture(scope="module")
def files(service: Service) -> dict[str, str]:
    """The path of each kind of stored file, by its name in tests."""
    training = {"epochs": 1, "batch_size": 16, "validation_fraction": 0.1, "checkpoint_epochs": 1}
    run = queue_run(service, "pictures", "m", training=training)["id"]
    service.work("train")
    (kept, *_) = service.http.get(f"/v1/runs/{run}/checkpoints").json()["checkpoints"]
    return {"dataset": DATASET, "checkpoint": f"/v1/runs/{run}/checkpoints/{kept['step']}/content"}


KINDS = pytest.mark.parametrize("kind", ["dataset", "checkpoint"])


@KINDS
def test_parts_are_sent_and_an_interrupted_download_resumes(service: Service, files: dict[str, str], kind: str) -> None:
    whole = service.http.get(files[kind])
    size, etag = len(whole.content), whole.headers["etag"]
    assert (whole.status_code, whole.headers["content-length"]) == (200, str(size))
    assert (whole.headers["accept-ranges"], whole.headers["content-type"]) == ("bytes", "application/octet-stream")
    for header, start, stop in (("bytes=8-15", 8, 16), ("bytes=-5", size - 5, size), (f"bytes=7-{size * 9}", 7, size)):
        part = service.http.get(files[kind], headers={"Range": header, "If-Range": etag})
        assert (part.status_code, part.content) == (206, whole.content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["content-length"] == str(stop - start)
    again = service.http.get(files[kind], headers={"Range": "bytes=8-15", "If-Range": '"other"'})
    assert (again.status_code, again.content) == (200, whole.content)


@KINDS
@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "bytes", "rows=0-1", "bytes=a-b"])
def test_an_invalid_range_is_ignored(service: Service, files: dict[str, str], kind: str, header: str) -> None:
    answer = service.http.get(files[kind], headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, int(answer.headers["content-length"]))


@KINDS
def test_a_range_after_the_end_is_refused(service: Service, files: dict[str, str], kind: str) -> None:
    size = len(service.http.get(files[kind]).content)
    for header in (f"bytes={size}-", "bytes=-0"):
        answer = service.http.get(files[kind], headers={"Range": header})
        problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert f"the {size} bytes of the file" in answer.json()["detail"]
