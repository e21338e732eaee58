"""No body keeps others waiting: beside each of them `/healthz` answers within a quarter of a second.

A busy machine makes every answer late, and must not fail a test. So a wait counts as far as the API process computed in
it: while the event loop is blocked, by its own work or by another thread that holds the interpreter, it always does.
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

from service.access import operations as access
from service.shared import json_documents, migrate
from service.shared.database import Database
from service.shared.parser_process import LARGE_BYTES
from service.shared.settings import Settings
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
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/sounds/load"),
    ("POST", "/v2/repository/models/sounds/unload"),
)
VERSION = "/v1/models/sounds/versions/1"
INFER = "/v2/models/sounds/versions/1/infer"
# As large as most shapes may be before they have too many parts.
MANY_PARTS_BYTES = 300_000
OPERATIONS = ("encode", "reconstruct", "score", "forecast", "sample")
JSON = {"Content-Type": "application/json"}


class Server(NamedTuple):
    """A running API, who may ask it, and the largest bodies that it reads."""

    address: tuple[str, int]
    process_id: int
    key: str
    request_bytes: int

    def computed_seconds(self) -> float:
        """The processor time that all threads of the process have taken, without its children's."""
        return time.clock_gettime((~self.process_id << 3) | 2)  # the clock id that clock_getcpuclockid(3) makes

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of an answer; 0 where the connection was closed before all of the body was sent."""
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
        """The status of an answer, and the longest that /healthz took beside it, in seconds."""
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
    """An API process with a model of the modalities audio, face and word."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    migrate.upgrade(settings.database_url)
    database = Database(settings.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "test", operates=True)
        _, key = access.create_key(session, project.id, "test")
    database.close()
    with api_process(settings) as (url, process_id):
        headers = {"Authorization": f"Bearer {key}"}
        httpx.post(f"{url}/v1/models/import", content=whole(), headers=headers, timeout=250).raise_for_status()
        parts = urlsplit(url)
        yield Server((str(parts.hostname), int(parts.port or 0)), process_id, key, settings.request_bytes)


def faults(server: Server, method: str, path: str, shapes_of: Iterable[tuple[str, bytes, dict[str, str]]]) -> list[str]:
    """Every shape beside which /healthz took too long, or at which the service failed."""
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
    """A body whose every byte is a chunk of HTTP of its own."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    return "chunks of a byte", chunks, {"Transfer-Encoding": "chunked"}


def repeated(before: bytes, item: bytes, after: bytes, size: int) -> bytes:
    """As many items as make a body of this size."""
    return before + b",".join([item] * (size // (len(item) + 1))) + after


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"key%d":{}' % number for number in range(count)) + b"}"


@pytest.mark.serial
def test_no_document_with_very_many_parts_keeps_others_waiting(server: Server) -> None:
    modalities = b'{"name":"d","source":{"upload":"u"},"schema":{"modalities":' + keys(20_000) + b"}}"
    fewer = b'{"name":"d","source":{"upload":"u"},"schema":{"modalities":' + keys(8000) + b"}}"
    datasets = plain([("modalities", modalities), ("fewer modalities", fewer)])
    runs = plain([("unknown keys", keys(8000)), ("too many unknown keys", keys(60_000))])
    assert faults(server, "POST", "/v1/datasets", datasets) == []
    assert faults(server, "POST", "/v1/runs", runs) == []
    assert faults(server, "POST", "/v1/runs", [in_small_chunks(b'{"model":' + b" " * 200_000 + b"1}")]) == []


@pytest.mark.serial
def test_no_rows_as_large_as_a_request_keep_others_waiting(server: Server) -> None:
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
def test_no_tensors_as_large_as_a_request_keep_others_waiting(server: Server) -> None:
    head = b'{"inputs":[{"name":"audio","datatype":"FP32","shape":[1,3],"data":['
    packed = gzip.compress(keys(1_500_000), 1)
    assert faults(server, "POST", INFER, [("unknown keys, as gzip", packed, {"Content-Encoding": "gzip"})]) == []
    lists = plain([("lists", repeated(head, b"[]", b"]}]}", server.request_bytes - 100))])
    assert faults(server, "POST", INFER, lists) == []


@pytest.mark.serial
def test_a_large_answer_keeps_nobody_waiting(server: Server) -> None:
    assert faults(server, "POST", f"{VERSION}/sample", [("sample", b'{"rows": 4096}', {})]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), DOCUMENTS)
def test_no_document_keeps_others_waiting(server: Server, method: str, path: str) -> None:
    for size in (json_documents.MAX_BYTES, MANY_PARTS_BYTES):
        assert faults(server, method, path, plain(shapes(size))) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_rows_keep_others_waiting(server: Server, operation: str) -> None:
    for size in (server.request_bytes, LARGE_BYTES - 1):
        assert faults(server, "POST", f"{VERSION}/{operation}", plain((*shapes(size), *inputs(size)))) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_tensors_keep_others_waiting(server: Server) -> None:
    for size in (server.request_bytes, LARGE_BYTES - 1):
        assert faults(server, "POST", INFER, tensors(size)) == []
