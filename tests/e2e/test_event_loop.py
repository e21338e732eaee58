"""No request body blocks the event loop: during each request `/healthz` responds within 0.25 s.

A busy machine delays every response, and must not fail a test. So the tests count the CPU time that the API process
used during a wait: a blocked event loop always uses CPU time, in its own thread or in the one that holds the
interpreter lock.
"""

import gzip
import http.client
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from sqlalchemy import select, update

from service.access import operations as access
from service.access.tables import Project
from service.datasets import operations as datasets
from service.datasets.schemas import DatasetRequest
from service.datasets.tables import DatasetVersion
from service.jobs.tables import Job
from service.shared import json_documents
from service.shared.database import Database
from service.shared.parser_process import LARGE_BYTES
from service.shared.samples import ModalitySchema, Schema
from service.shared.settings import Settings
from tests import schema
from tests.bundles import whole
from tests.service.hostile_bodies import inputs, shapes, tensors
from tests.service.inference.serving import api_process

BAR_SECONDS = 0.25
TRIES = 3
DOCUMENTS = (
    ("POST", "/v1/runs"),
    ("POST", "/v1/datasets"),
    ("PATCH", "/v1/runs/run_none"),
    ("POST", "/v1/runs/run_none/retry"),
    ("POST", "/v1/models/sounds/versions"),
    ("PATCH", "/v1/models/sounds"),
    ("PATCH", "/v1/models/sounds/versions/1"),
    ("PUT", "/v1/models/sounds/aliases/production"),
    ("POST", "/v1/api-keys"),
    ("POST", "/v1/projects"),
    ("PATCH", "/v1/projects/prj_none"),
    ("POST", "/v1/projects/prj_none/restore"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/sounds/load"),
    ("POST", "/v2/repository/models/sounds/unload"),
)
VERSION = "/v1/models/sounds/versions/1"
INFER = "/v2/models/sounds/versions/1/infer"
# Most shapes reach the limit of parts at about this size.
MANY_PARTS_BYTES = 300_000
OPERATIONS = ("encode", "reconstruct", "impute", "score", "forecast", "sample")
JSON = {"Content-Type": "application/json"}


class Server(NamedTuple):
    """A running API process: address, process id, API key, limit of request bodies, and URL of its database."""

    address: tuple[str, int]
    process_id: int
    key: str
    request_bytes: int
    database_url: str

    def computed_seconds(self) -> float:
        """The CPU time of all threads of the process, without its children."""
        return time.clock_gettime((~self.process_id << 3) | 2)  # the clock id of clock_getcpuclockid(3)

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the response; 0 if the server closed the connection before the end of the body."""
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        try:
            sent = {**JSON, **headers, "Authorization": f"Bearer {self.key}"}
            connection.request(method, path, body, sent, encode_chunked=False)
            response = connection.getresponse()
            response.read()
            return response.status
        except (ConnectionError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def longest_wait(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        """The status of the response, and the longest time of a concurrent /healthz, in seconds."""
        done, begun, waits = threading.Event(), threading.Event(), [0.0]

        def ask() -> None:
            connection = http.client.HTTPConnection(*self.address, timeout=120)
            while not done.is_set():
                began_at, computed = time.perf_counter(), self.computed_seconds()
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                waits.append(min(time.perf_counter() - began_at, self.computed_seconds() - computed))
                begun.set()
                done.wait(0.005)
            connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        begun.wait()
        waits.clear()
        try:
            status = self.send(method, path, body, headers)
        finally:
            done.set()
            thread.join()
        return status, max(waits, default=0.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API process with a model for the modalities audio, face and word."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    schema.install(settings.database_url)
    database = Database(settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "test", operates=True)
        _, key = access.create_key(session, project.id, "test")
    database.close()
    with api_process(settings) as (url, process_id):
        headers = {"Authorization": f"Bearer {key}"}
        httpx.post(f"{url}/v1/bundles", content=whole(), headers=headers, timeout=250).raise_for_status()
        parts = urlsplit(url)
        yield Server(
            (str(parts.hostname), int(parts.port or 0)), process_id, key, settings.request_bytes, settings.database_url
        )


def faults(server: Server, method: str, path: str, shapes_of: Iterable[tuple[str, bytes, dict[str, str]]]) -> list[str]:
    """The shapes of bodies that delayed /healthz too long or made the service fail."""
    wrong = []
    for name, body, headers in shapes_of:
        for _ in range(TRIES):
            status, seconds = server.longest_wait(method, path, body, headers)
            if seconds < BAR_SECONDS:
                break
        else:
            wrong.append(f"{method} {path}, {name}: /healthz took {seconds:.3f} s in each of {TRIES} tries")
        if not 0 <= status < 500:
            wrong.append(f"{method} {path}, {name}: {status}")
    return wrong


def plain(found: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    return ((name, body, {}) for name, body in found)


def in_small_chunks(body: bytes) -> tuple[str, bytes, dict[str, str]]:
    """A body in chunked encoding with one byte per chunk."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    return "chunks of a byte", chunks, {"Transfer-Encoding": "chunked"}


def repeated(before: bytes, item: bytes, after: bytes, size: int) -> bytes:
    """A body of this size, filled with repeated items."""
    return before + b",".join([item] * (size // (len(item) + 1))) + after


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"key%d":{}' % number for number in range(count)) + b"}"


@pytest.mark.serial
def test_documents_with_very_many_parts_do_not_block_the_event_loop(server: Server) -> None:
    modalities = b'{"name":"d","source":{"upload":"u"},"schema":{"modalities":' + keys(20_000) + b"}}"
    fewer = b'{"name":"d","source":{"upload":"u"},"schema":{"modalities":' + keys(8000) + b"}}"
    datasets = plain([("modalities", modalities), ("fewer modalities", fewer)])
    runs = plain([("unknown keys", keys(8000)), ("too many unknown keys", keys(60_000))])
    assert faults(server, "POST", "/v1/datasets", datasets) == []
    assert faults(server, "POST", "/v1/runs", runs) == []
    assert faults(server, "POST", "/v1/runs", [in_small_chunks(b'{"model":' + b" " * 200_000 + b"1}")]) == []


@pytest.mark.serial
def test_rows_of_the_maximum_size_do_not_block_the_event_loop(server: Server) -> None:
    size = server.request_bytes - 100
    bodies = [
        ("empty rows", repeated(b'{"inputs":{"audio":[', b"[]", b"]}}", size)),
        ("one long row", repeated(b'{"inputs":{"audio":[[', b"0", b"]]}}", size)),
        ("a column of nulls", repeated(b'{"inputs":{"audio":[', b"null", b"]}}", size)),
        ("targets", repeated(b'{"inputs":{"word":[1]},"targets":[', b'"word"', b"]}", size)),
        ("unknown keys", keys(1_500_000)),
        ("a small body of empty rows", repeated(b'{"inputs":{"audio":[', b"[]", b"]}}", LARGE_BYTES - 100)),
    ]
    assert faults(server, "POST", f"{VERSION}/encode", plain(bodies[:1])) == []
    assert faults(server, "POST", f"{VERSION}/reconstruct", plain(bodies)) == []


@pytest.mark.serial
def test_tensors_of_the_maximum_size_do_not_block_the_event_loop(server: Server) -> None:
    head = b'{"inputs":[{"name":"audio","datatype":"FP32","shape":[1,3],"data":['
    packed = gzip.compress(keys(1_500_000), 1)
    assert faults(server, "POST", INFER, [("unknown keys, as gzip", packed, {"Content-Encoding": "gzip"})]) == []
    lists = plain([("lists", repeated(head, b"[]", b"]}]}", server.request_bytes - 100))])
    assert faults(server, "POST", INFER, lists) == []


@pytest.mark.serial
def test_a_large_response_does_not_block_the_event_loop(server: Server) -> None:
    assert faults(server, "POST", f"{VERSION}/sample", [("sample", b'{"rows": 4096}', {})]) == []


@pytest.mark.serial
def test_a_page_of_versions_with_many_modalities_does_not_block_the_event_loop(server: Server) -> None:
    names = [f"sensor_{number:04}" for number in range(1000)]
    modalities = [ModalitySchema(name=name, shape=(8,), dtype="float32") for name in names]
    figures = {"rows": 10, "present": 10, "nan": 0, "mean": 0.5, "standard_deviation": 0.25, "min": 0.125, "max": 1.0}
    made = {
        "schema": Schema(kind="static", modalities=tuple(modalities)).model_dump(mode="json"),
        "statistics": {"rows": 10, "modalities": dict.fromkeys(names, figures)},
        "rows": 10,
    }
    request = DatasetRequest.model_validate({"name": "wide", "source": {"generator": {"name": "spirals"}}})
    database = Database(server.database_url)
    with database.writer.begin() as session:
        project_id = session.scalars(select(Project.id)).one()
        for _ in range(200):
            datasets.create_version(session, project_id, request)
        session.execute(update(DatasetVersion).values(**made))
        session.execute(update(Job).where(Job.kind == datasets.KIND).values(state="succeeded"))
    database.close()
    path = "/v1/datasets/wide/versions?page_size=200"
    assert faults(server, "GET", path, [("200 versions with 1000 modalities", b"", {})]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), DOCUMENTS)
def test_documents_do_not_block_the_event_loop(server: Server, method: str, path: str) -> None:
    for size in (json_documents.MAX_BYTES, MANY_PARTS_BYTES):
        assert faults(server, method, path, plain(shapes(size))) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_rows_do_not_block_the_event_loop(server: Server, operation: str) -> None:
    size = LARGE_BYTES - 1  # larger bodies are parsed in another process
    assert faults(server, "POST", f"{VERSION}/{operation}", plain((*shapes(size), *inputs(size)))) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", ["reconstruct", "forecast"])
def test_large_bodies_of_rows_do_not_block_the_event_loop(server: Server, operation: str) -> None:
    size = server.request_bytes
    assert faults(server, "POST", f"{VERSION}/{operation}", plain((*shapes(size), *inputs(size)))) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tensors_do_not_block_the_event_loop(server: Server) -> None:
    for size in (server.request_bytes, LARGE_BYTES - 1):
        assert faults(server, "POST", INFER, tensors(size)) == []
