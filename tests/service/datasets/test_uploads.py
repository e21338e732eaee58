"""Uploads are bounded, compared with their digest, recognised by their first bytes, and can be deleted."""

import asyncio
import base64
import contextlib
import hashlib
import io
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi.testclient import TestClient

from service.app import create_app
from service.shared.storage import Writer, sweep
from tests.conftest import Service, wait_until
from tests.service.files import packed
from tests.service.steps import fault, problem, queue_dataset, upload


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"x": [1.0, 2.0]}), content)
    return content.getvalue()


def files(service: Service) -> int:
    return sum(path.is_file() for path in service.settings.artifacts.rglob("*"))


@pytest.mark.parametrize(
    ("content", "format"),
    [(packed(x=np.zeros(3)), "npz"), (parquet(), "parquet"), (b'{"x": 1}\n', "jsonl"), (b' \n {"x": 1}', "jsonl")],
)
def test_the_format_is_recognised_by_the_first_bytes(service: Service, content: bytes, format: str) -> None:
    answer = service.http.post("/v1/uploads", content=content)
    assert (answer.status_code, answer.json()["format"]) == (201, format)


def test_bytes_of_an_unknown_format_are_refused(service: Service) -> None:
    body = problem(service.http.post("/v1/uploads", content=b"\x89HDF\r\n\x1a\n"), 422)
    assert body["errors"][0]["code"] == "unknown_format"
    assert "HDF" in body["detail"]


def test_a_matching_digest_is_accepted(service: Service) -> None:
    content = packed(x=np.arange(4.0))
    answer = service.http.post("/v1/uploads", content=content, headers={"Content-Digest": digest(content)})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (digest(b"other bytes"), "digest_mismatch"),
        (f"md5=:AAAA:, {digest(b'other bytes')}", "digest_mismatch"),
        ("sha-256=:AAAA:", "bad_digest"),
        ("sha-256=abc", "bad_digest"),
        ("sha-256=::", "bad_digest"),
    ],
)
def test_a_wrong_digest_is_refused_and_leaves_no_file(service: Service, header: str, code: str) -> None:
    before = files(service)
    answer = service.http.post("/v1/uploads", content=packed(x=np.arange(5.5)), headers={"Content-Digest": header})
    assert fault(answer) == ("content-digest", code)
    assert files(service) == before


@pytest.mark.parametrize(("missing", "status", "code"), [(1, 413, "upload_too_large"), (0, 507, "quota_exceeded")])
def test_an_upload_that_exceeds_the_quota_is_refused_while_it_is_received(
    service: Service, missing: int, status: int, code: str
) -> None:
    """One that is larger than the whole quota never fits; one that is larger than what is left fits after deletions."""
    content = packed(x=np.random.default_rng(0).random(200_000))
    upload(service, packed(x=np.arange(3.0)))
    app = create_app(service.settings.model_copy(update={"project_stored_bytes": len(content) - missing}))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    before = files(service)
    with TestClient(app, headers={"Authorization": f"Bearer {service.key}"}) as http:
        announced = http.post("/v1/uploads", content=content)
        streamed = http.post("/v1/uploads", content=pieces())
    for answer in (announced, streamed):
        problem(answer, status, code)
        assert "retry-after" not in answer.headers  # waiting changes nothing
    assert files(service) == before


def test_the_event_loop_neither_hashes_nor_writes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    write, threads = Writer.write, []

    def watched(writer: Writer, piece: bytes) -> None:
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            threads.append("the event loop's")
        threads.append("another")
        write(writer, piece)

    monkeypatch.setattr(Writer, "write", watched)
    content = packed(x=np.random.default_rng(0).random(400_000))
    answer = service.http.post("/v1/uploads", content=content)
    assert (answer.status_code, answer.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())
    assert set(threads) == {"another"}


def test_an_interrupted_upload_leaves_no_file(service: Service) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service.settings), log_config=None))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    before = files(service)
    try:
        wait_until(lambda: server.started)
        with socket.create_connection(listener.getsockname()) as client:
            head = f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\n"
            client.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + bytes(200_000))
            wait_until(lambda: files(service) == before + 1, what="a file on its way")
        wait_until(lambda: files(service) == before, what="nothing left")
    finally:
        server.should_exit = True
        thread.join()
    assert files(service) == before


def test_uploads_are_listed_and_deleted(service: Service) -> None:
    content = packed(x=np.arange(7.25))
    upload_id = upload(service, content)
    assert service.http.get("/v1/uploads").json()["uploads"][0]["id"] == upload_id
    assert service.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
    problem(service.http.get(f"/v1/uploads/{upload_id}"), 404, "upload_not_found")
    problem(service.http.delete(f"/v1/uploads/{upload_id}"), 404, "upload_not_found")
    assert sweep(service.worker.database, service.worker.storage) > 0
    assert not (service.settings.artifacts / service.project_id / hashlib.sha256(content).hexdigest()).exists()


def test_an_upload_cannot_be_deleted_while_it_is_converted(service: Service) -> None:
    version = queue_dataset(service, "made", x=np.arange(9.0))
    path = f"/v1/uploads/{version['source']['upload']}"
    assert "'made' version 1" in problem(service.http.delete(path), 409, "upload_in_use")["detail"]
    service.work("data")
    assert service.http.delete(path).status_code == 204
    assert service.http.get("/v1/datasets/made/versions/1").json()["state"] == "ready"
