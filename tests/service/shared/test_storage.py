"""Files become artifacts whole or not at all, once, and are verified when they are read."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import func, select

from service.shared import storage
from service.shared.database import Database
from service.shared.storage import CorruptArtifact, Storage, Stored
from service.shared.tables import Artifact

CONTENT = b"0123456789" * 100_000


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def stored(store: Storage, content: bytes = CONTENT, project_id: str = "prj_a") -> Stored:
    with store.writer(project_id) as writer:
        writer.write(content[:10])
        writer.write(content[10:])
        return writer.commit()


def test_a_committed_file_stands_under_its_digest_and_nowhere_else(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store)
    assert made == Stored("prj_a", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert files(tmp_path) == {f"prj_a/{made.sha256}"}
    assert store.fetch("prj_a", made.sha256, made.size_bytes).read_bytes() == CONTENT


def test_a_file_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    with store.writer("prj_a") as writer:
        writer.write(CONTENT)

    def fail_half_way() -> None:
        with store.writer("prj_a") as writer:
            writer.write(CONTENT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert files(tmp_path) == set()


def test_the_same_content_is_one_file_within_a_project_and_another_in_the_next(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    first, again, other = stored(store), stored(store), stored(store, project_id="prj_b")
    assert first == again
    assert files(tmp_path) == {f"prj_a/{first.sha256}", f"prj_b/{other.sha256}"}


def test_put_stores_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    store = Storage(tmp_path / "store")
    made = store.put("prj_a", source)
    assert source.read_bytes() == CONTENT
    assert store.path("prj_a", made.sha256).read_bytes() == CONTENT


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store, b"")
    assert store.fetch("prj_a", made.sha256, 0).read_bytes() == b""


def test_fetch_says_that_a_file_is_missing(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store)
    store.path("prj_a", made.sha256).unlink()
    with pytest.raises(CorruptArtifact, match="missing"):
        store.fetch("prj_a", made.sha256, made.size_bytes)


def test_fetch_says_that_a_file_is_short(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store)
    store.path("prj_a", made.sha256).write_bytes(CONTENT[:-1])
    with pytest.raises(CorruptArtifact, match="999999 bytes, expected 1000000"):
        store.fetch("prj_a", made.sha256, made.size_bytes)


def test_fetch_finds_one_flipped_bit(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store)
    spoiled = bytearray(CONTENT)
    spoiled[len(spoiled) // 2] ^= 1
    store.path("prj_a", made.sha256).write_bytes(spoiled)
    with pytest.raises(CorruptArtifact, match="other bytes"):
        store.fetch("prj_a", made.sha256, made.size_bytes)


def test_an_artifact_is_not_found_in_another_project(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    made = stored(store)
    with pytest.raises(CorruptArtifact, match="missing"):
        store.fetch("prj_b", made.sha256, made.size_bytes)


def test_the_same_content_is_one_row(database: Database, project_id: str) -> None:
    made = Stored(project_id, "0" * 64, 5)
    ids = []
    for _ in range(2):
        with database.writer.begin() as session:
            ids.append(storage.record(session, made).id)
    assert ids[0] == ids[1]
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 1


def test_writers_that_record_the_same_content_at_once_share_one_row(database: Database, project_id: str) -> None:
    made = Stored(project_id, "0" * 64, 5)
    start = Barrier(8)

    def record(_: int) -> str:
        start.wait()
        with database.writer.begin() as session:
            return storage.record(session, made).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(record, range(8)))) == 1
