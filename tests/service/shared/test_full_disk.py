"""A full disk: the errors of all writers are recognised, and no partial file is left."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from safetensors.torch import save_file
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from models.io import checkpoint
from service.shared import broker, storage
from service.shared.database import Database
from service.shared.disk_reserve import Reserve
from service.shared.disk_space import Space
from service.shared.errors import StorageFull
from service.shared.full_disk import is_disk_full
from service.shared.settings import Settings
from service.shared.storage import FolderStorage, Storage, StorageAway
from tests import filesystem, schema
from tests.models.small import static_model

RESERVE_BYTES = 1024**2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 8 MiB."""
    with filesystem.small(tmp_path / "disk", 8) as folder:
        yield folder


def fill(disk: Path, leave_bytes: int = 0) -> None:
    filesystem.fill(disk / "ballast", leave_bytes)


def upload(store: Storage, size_bytes: int) -> None:
    with store.writer("prj_a") as writer:
        for _ in range(size_bytes // 1024):
            writer.write(bytes(1024))
        writer.commit()


def left_on(disk: Path) -> list[str]:
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file() and path.name != "ballast")


def _bytes(disk: Path) -> None:
    (disk / "bytes").write_bytes(bytes(100_000))


def _tensors(disk: Path) -> None:
    save_file({"a": torch.zeros(100_000)}, disk / "tensors")


def _model(disk: Path) -> None:
    checkpoint.save(static_model(), disk / "model", {})


def _first_open(disk: Path) -> None:
    """SQLite creates the index of the journal when it opens the file."""
    sqlite3.connect(disk / "new.db").execute("PRAGMA journal_mode=WAL").connection.execute("CREATE TABLE t (x)")


@pytest.mark.parametrize("write", [_bytes, _tensors, _model, _first_open])
def test_errors_of_all_libraries_on_a_full_disk_are_recognised(disk: Path, write: Callable[[Path], None]) -> None:
    fill(disk)
    with pytest.raises(Exception) as raised:  # noqa: PT011 each library has its own class
        write(disk)
    assert is_disk_full(raised.value)
    assert not is_disk_full(ValueError("no such thing"))
    assert not is_disk_full(sqlite3.OperationalError("database is locked"))


def test_the_error_of_sqlite_on_a_full_disk_is_recognised(disk: Path) -> None:
    database = Database(f"sqlite:///{disk / 'test.db'}")
    with database.writer.begin() as session:
        session.execute(text("CREATE TABLE t (x)"))
    fill(disk)
    with pytest.raises(OperationalError) as raised, database.writer.begin() as session:
        session.execute(text("INSERT INTO t VALUES (zeroblob(5000000))"))
    assert is_disk_full(raised.value)
    database.close()


def test_the_error_of_postgresql_on_a_full_disk_is_recognised(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with pytest.raises(OperationalError) as raised, database.writer.begin() as session:
        session.execute(text("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"))
    assert is_disk_full(raised.value)
    with pytest.raises(OperationalError) as raised, database.writer.begin() as session:
        session.execute(text("DO $$ BEGIN RAISE SQLSTATE '53200'; END $$"))  # out of memory
    assert not is_disk_full(raised.value)
    database.close()


def test_an_upload_to_a_full_disk_leaves_no_files(disk: Path) -> None:
    store = FolderStorage(disk / "artifacts")
    fill(disk, 500_000)
    with pytest.raises(OSError, match="No space left") as raised:
        upload(store, 1_000_000)
    assert is_disk_full(raised.value)
    assert left_on(disk) == []


def test_a_file_that_does_not_fit_on_the_disk_of_artifacts_leaves_no_part_there(disk: Path, tmp_path: Path) -> None:
    store = FolderStorage(disk / "artifacts")
    made = tmp_path / "made"
    made.write_bytes(bytes(1_000_000))
    fill(disk, 500_000)
    with pytest.raises(OSError, match="No space left"):
        store.adopt("prj_a", made)
    assert left_on(disk) == []


def test_uploads_do_not_use_the_reserve(disk: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", storage=str(disk), reserve_bytes=RESERVE_BYTES)
    settings.home.mkdir()
    store = FolderStorage(disk, space=Space.of(settings))
    fill(disk, 3 * RESERVE_BYTES)
    with pytest.raises(StorageFull), store.writer("prj_a") as writer:
        writer.expect(3 * RESERVE_BYTES)
    with pytest.raises(StorageFull):
        upload(store, 4 * RESERVE_BYTES)
    assert filesystem.free_bytes(disk) >= 3 * RESERVE_BYTES - 8192
    upload(store, RESERVE_BYTES)
    fill(disk, RESERVE_BYTES - 4096)
    assert store.space.full() == ["storage"]
    with pytest.raises(StorageFull) as raised:
        upload(store, 0)
    assert (raised.value.status, raised.value.code) == (507, "storage_full")


def test_a_write_releases_the_reserve_and_it_is_allocated_again(disk: Path) -> None:
    url = f"sqlite:///{disk / 'test.db'}"
    schema.install(url)
    database = Database(url, RESERVE_BYTES)
    reserve = database.reserve
    assert reserve is not None
    with database.writer.begin() as session:
        session.execute(text("CREATE TABLE t (x)"))
        session.execute(text("INSERT INTO t VALUES (1), (2)"))
    reserve.allocate()
    assert reserve.missing_bytes() == 0
    fill(disk)
    with database.writer.begin() as session:
        session.execute(text("DELETE FROM t WHERE x = 1"))
    assert reserve.missing_bytes() == RESERVE_BYTES
    space = Space({"home": disk}, RESERVE_BYTES, reserve)
    assert space.full() == ["home"]
    fill(disk, RESERVE_BYTES // 4)
    with pytest.raises(StorageFull):
        reserve.check()
    with database.writer.begin() as session:
        session.execute(text("DELETE FROM t WHERE x = 2"))
    (disk / "ballast").unlink()
    reserve.allocate()
    reserve.check()
    assert reserve.missing_bytes() == 0
    assert space.full() == []
    database.close()


def test_the_reserve_is_not_allocated_if_it_would_fill_the_disk(disk: Path) -> None:
    reserve = Reserve(disk / "test.db-reserve", RESERVE_BYTES)
    fill(disk, 2 * RESERVE_BYTES - 4096)
    reserve.allocate()
    assert reserve.missing_bytes() == RESERVE_BYTES
    assert Space({"home": disk}, RESERVE_BYTES, reserve).full() == ["home"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://host/name", "sqlite://", "sqlite:///:memory:"])
def test_a_database_without_a_file_has_no_reserve(url: str) -> None:
    assert Reserve.beside(url, RESERVE_BYTES) is None
    assert Reserve.beside("sqlite:////some/file.db", 0) is None


def test_a_wake_up_on_a_full_disk_is_not_sent_and_leaves_no_files(disk: Path) -> None:
    settings = Settings(home=disk)
    broker.declare(settings)
    messages = broker.connect(settings)
    before = left_on(disk)
    fill(disk)
    assert not broker.wake(messages, "train", "job_1")
    assert left_on(disk) == before


class _Full(BaseHTTPRequestHandler):
    """An object store that refuses every object with `status` and `code`."""

    status, code = 507, "AnyCode"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Error><Code>{self.code}</Code><Message>Refused.</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


@pytest.mark.parametrize(("status", "code"), [(507, "AnyCode"), (500, "XMinioStorageFull"), (403, "QuotaExceeded")])
def test_a_full_bucket_is_distinguished_from_an_unreachable_one(tmp_path: Path, status: int, code: str) -> None:
    """The version of obstore is capped for this test: its errors have status and code only in their text."""
    refusing = type("Refusing", (_Full,), {"status": status, "code": code})
    server = ThreadingHTTPServer(("127.0.0.1", 0), refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = Settings(
        home=tmp_path,
        storage="s3://bucket/kept",
        s3_endpoint=f"http://127.0.0.1:{server.server_port}",
        s3_access_key_id="test",
        s3_secret_access_key=SecretStr("secret-of-the-bucket"),
    )
    store = storage.from_settings(settings)
    with pytest.raises(StorageFull):
        upload(store, 1024)
    server.shutdown()
    server.server_close()
    assert store.space.full() == ["bucket"]
    assert left_on(tmp_path) == []
    store.space.check()  # the next write finds out whether the bucket has space again
    with pytest.raises(StorageAway):
        upload(store, 1024)
