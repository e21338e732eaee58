"""A file becomes an artifact once, whole or not at all, and is verified when it is read: in a folder and a bucket."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import func, select

from service.shared import storage
from service.shared.database import Database
from service.shared.s3 import READ_BYTES, Bucket
from service.shared.settings import Settings
from service.shared.storage import BucketStorage, CorruptArtifact, FolderStorage, Storage, StorageAway, Stored
from service.shared.storage.tables import Artifact

CONTENT = b"0123456789" * 100_000


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "store")
    return storage.from_settings(request.getfixturevalue("s3_settings"))


def spoil(store: Storage, made: Stored, content: bytes | None) -> None:
    """Replace the stored bytes, or delete them. The local copy of an object is deleted too."""
    if isinstance(store, BucketStorage):
        store.bucket.remove(made.key)
        if content is not None:
            spoiled = store.root.parent / "spoiled"
            spoiled.write_bytes(content)
            store.bucket.put(made.key, spoiled)
    store.path(made.project_id, made.sha256).unlink()
    if content is not None and isinstance(store, FolderStorage):
        store.path(made.project_id, made.sha256).write_bytes(content)


def kept(store: Storage) -> set[str]:
    return {entry.key for entry in store.entries()}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def stored(store: Storage, content: bytes = CONTENT, project_id: str = "prj_a") -> Stored:
    with store.writer(project_id) as writer:
        writer.write(content[:10])
        writer.write(content[10:])
        return writer.commit()


def test_a_committed_file_exists_only_under_its_digest(store: Storage) -> None:
    made = stored(store)
    assert made == Stored("prj_a", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert kept(store) == {f"prj_a/{made.sha256}"}
    assert files(store.root) == {f"prj_a/{made.sha256}"}
    assert store.fetch("prj_a", made.sha256, made.size_bytes).read_bytes() == CONTENT


def test_a_file_that_is_not_committed_leaves_nothing(store: Storage) -> None:
    with store.writer("prj_a") as writer:
        writer.write(CONTENT)

    def fail_half_way() -> None:
        with store.writer("prj_a") as writer:
            writer.write(CONTENT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert (kept(store), files(store.root)) == (set(), set())


def test_the_same_content_is_one_file_within_a_project_and_another_in_the_next(store: Storage) -> None:
    first, again, other = stored(store), stored(store), stored(store, project_id="prj_b")
    assert first == again
    assert kept(store) == {f"prj_a/{first.sha256}", f"prj_b/{other.sha256}"}


def test_adopt_moves_a_finished_file(store: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    made = store.adopt("prj_a", source)
    assert not source.exists()
    assert store.fetch("prj_a", made.sha256, made.size_bytes).read_bytes() == CONTENT


def test_an_empty_file_is_a_file(store: Storage) -> None:
    made = stored(store, b"")
    assert store.fetch("prj_a", made.sha256, 0).read_bytes() == b""


def test_a_file_of_many_parts_comes_back_whole(store: Storage) -> None:
    content = bytes(range(256)) * 4096 * 20  # 20 MiB
    made = stored(store, content)
    store.path("prj_a", made.sha256).touch()
    if isinstance(store, BucketStorage):
        store.path("prj_a", made.sha256).unlink()
    assert store.fetch("prj_a", made.sha256, made.size_bytes).read_bytes() == content


def test_fetch_reports_a_missing_file(store: Storage) -> None:
    made = stored(store)
    spoil(store, made, None)
    with pytest.raises(CorruptArtifact, match="missing"):
        store.fetch("prj_a", made.sha256, made.size_bytes)


def test_fetch_reports_a_short_file(store: Storage) -> None:
    made = stored(store)
    spoil(store, made, CONTENT[:-1])
    with pytest.raises(CorruptArtifact, match="999999 bytes, expected 1000000"):
        store.fetch("prj_a", made.sha256, made.size_bytes)


def test_fetch_reports_one_flipped_bit(store: Storage) -> None:
    made = stored(store)
    flipped = bytearray(CONTENT)
    flipped[len(flipped) // 2] ^= 1
    spoil(store, made, bytes(flipped))
    with pytest.raises(CorruptArtifact, match="other bytes"):
        store.fetch("prj_a", made.sha256, made.size_bytes)
    assert files(store.unfinished) == set()


def test_an_artifact_is_not_found_in_another_project(store: Storage) -> None:
    made = stored(store)
    with pytest.raises(CorruptArtifact, match="missing"):
        store.fetch("prj_b", made.sha256, made.size_bytes)


def test_a_removed_file_no_longer_exists(store: Storage) -> None:
    made = stored(store)
    assert made.exists is not None
    assert made.exists()
    for _ in range(2):
        store.remove(made)
    assert not made.exists()
    assert (kept(store), files(store.root)) == (set(), set())


def test_a_damaged_copy_is_downloaded_again(s3_settings: Settings) -> None:
    store = storage.from_settings(s3_settings)
    made = stored(store)
    store.path("prj_a", made.sha256).write_bytes(b"x" * len(CONTENT))
    assert store.fetch("prj_a", made.sha256, made.size_bytes).read_bytes() == CONTENT


def test_the_least_recently_used_copies_are_deleted_first(s3_settings: Settings) -> None:
    store = storage.from_settings(s3_settings.model_copy(update={"cache_bytes": 2 * len(CONTENT)}))
    made = [stored(store, bytes([number]) + CONTENT[1:]) for number in range(2)]
    for age, each in enumerate(made):
        os.utime(store.path("prj_a", each.sha256), (age + 1, age + 1))
    store.fetch("prj_a", made[0].sha256, len(CONTENT))
    third = stored(store, b"\2" + CONTENT[1:])
    assert files(store.root) == {f"prj_a/{each.sha256}" for each in (made[0], third)}
    assert kept(store) == {each.key for each in (*made, third)}


def test_a_copy_that_was_fetched_just_now_stays_although_the_cache_is_full(s3_settings: Settings) -> None:
    store = storage.from_settings(s3_settings.model_copy(update={"cache_bytes": len(CONTENT)}))
    made = [stored(store, bytes([number]) + CONTENT[1:]) for number in range(2)]
    for each in made:
        store.path("prj_a", each.sha256).unlink()
    samples, init = (store.fetch("prj_a", each.sha256, len(CONTENT)) for each in made)
    assert (samples.exists(), init.exists()) == (True, True)
    os.utime(samples, (1, 1))
    third = stored(store, b"\2" + CONTENT[1:])
    assert files(store.root) == {f"prj_a/{each.sha256}" for each in (made[1], third)}


def test_an_object_that_changes_while_it_is_read_is_an_error(s3_settings: Settings, tmp_path: Path) -> None:
    bucket = Bucket(f"{s3_settings.storage}", s3_settings)
    for content in (b"a", b"b"):
        (tmp_path / "file").write_bytes(content * (READ_BYTES + 1))
        bucket.put("object", tmp_path / "file")
        if content == b"a":
            pieces = bucket.get("object")
            assert next(pieces) == b"a" * READ_BYTES
    with pytest.raises(StorageAway, match="changed"):
        next(pieces)


def test_a_missing_bucket_is_not_reported_as_missing_files(s3_settings: Settings) -> None:
    store = storage.from_settings(s3_settings.model_copy(update={"storage": "s3://another-bucket/kept"}))
    assert isinstance(store, BucketStorage)
    bucket = store.bucket
    made = Stored("prj_a", "0" * 64, 5)
    for ask in (
        lambda: store.fetch("prj_a", made.sha256, 5),
        lambda: stored(store),
        lambda: bucket.exists(made.key),
        lambda: store.remove(made),
        lambda: kept(store),
    ):
        with pytest.raises(StorageAway, match="s3://another-bucket"):
            ask()


def test_a_store_that_does_not_answer_is_not_reported_as_a_missing_file(s3_settings: Settings) -> None:
    away = s3_settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    store = storage.from_settings(away)
    with pytest.raises(StorageAway, match="s3://artifacts"):
        store.fetch("prj_a", "0" * 64, 5)
    with pytest.raises(StorageAway):
        stored(store)
    assert files(store.root) == set()


def test_the_same_content_is_one_row(database: Database, project_id: str) -> None:
    made = Stored(project_id, "0" * 64, 5)
    ids = []
    for _ in range(2):
        with database.writer.begin() as session:
            ids.append(storage.record(session, made, None).id)
    assert ids[0] == ids[1]
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 1


def test_concurrent_records_of_the_same_content_share_one_row(database: Database, project_id: str) -> None:
    made = Stored(project_id, "0" * 64, 5)
    start = Barrier(8)

    def record(_: int) -> str:
        start.wait()
        with database.writer.begin() as session:
            return storage.record(session, made, None).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(record, range(8)))) == 1
