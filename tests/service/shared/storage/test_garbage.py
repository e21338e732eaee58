"""Files without rows are found and removed; files with rows stay."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from service.datasets.tables import Upload
from service.shared import storage
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.storage import BucketStorage, FolderStorage, Storage, garbage
from service.shared.storage.tables import Artifact
from tests import schema


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "store")
    return storage.from_settings(request.getfixturevalue("s3_settings"))


def put(store: Storage, project_id: str, content: bytes) -> storage.Stored:
    with store.writer(project_id) as writer:
        writer.write(content)
        return writer.commit()


def test_only_files_without_a_row_and_released_ones_are_removed(
    database: Database, project_id: str, store: Storage
) -> None:
    named, unnamed, released, lost = (put(store, project_id, bytes([n])) for n in range(4))
    with database.writer.begin() as session:
        kept = storage.record(session, named, None)
        session.add(Upload(id="upl_1", project_id=project_id, artifact_id=kept.id, format="npz", arrays=[]))
        storage.record(session, lost, None)
        storage.release(session, [storage.record(session, released, None).id])
    store.remove(lost)
    leftover = store.unfinished / "left"
    leftover.write_bytes(b"half")
    found = garbage.find(database, store, -5)
    assert [entry.key for entry in found.unnamed] == [unnamed.key]
    assert [entry.key for entry in found.leftovers] == ["tmp/left"]
    assert (list(found.released), list(found.missing)) == ([released], [lost])
    assert garbage.collect(database, store, found) == 3
    assert {entry.key for entry in store.entries()} == {named.key}
    assert not leftover.exists()
    with database.reader() as session:
        assert {row.sha256 for row in session.query(Artifact)} == {named.sha256, lost.sha256}


def test_young_files_stay(database: Database, project_id: str, store: Storage) -> None:
    young = put(store, project_id, b"young")
    (store.unfinished / "left").write_bytes(b"half")
    found = garbage.find(database, store, 3600)
    assert (list(found.unnamed), list(found.leftovers)) == ([], [])
    assert {entry.key for entry in store.entries()} == {young.key}


def test_a_file_that_gets_its_row_after_the_search_stays(database: Database, project_id: str, store: Storage) -> None:
    made = put(store, project_id, b"made")
    found = garbage.find(database, store, -5)
    with database.writer.begin() as session:
        storage.record(session, made, None)
    assert garbage.collect(database, store, found) == 0
    assert {entry.key for entry in store.entries()} == {made.key}


def test_files_that_are_not_artifacts_stay(database: Database, project_id: str, store: Storage, tmp_path: Path) -> None:
    for key in ("notes/readme.txt", f"{project_id}/{'0' * 64}.bak"):
        path = store.root / key
        if isinstance(store, BucketStorage):
            path = tmp_path / "file"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"somebody's")
        if isinstance(store, BucketStorage):
            store.bucket.put(key, path)
    assert garbage.collect(database, store, garbage.find(database, store, -5)) == 0
    assert len(list(store.entries())) == 2


def test_the_command_lists_garbage_and_removes_it_with_yes(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    monkeypatch.setenv("SENSORIUM_DATABASE", sqlite_url)
    schema.install(sqlite_url)
    store = storage.from_settings(Settings())
    made = put(store, "prj_a", b"unnamed")
    assert made.key not in gc()
    assert f"{made.key}: 7 bytes without a row" in gc("--older-than-seconds", "0")
    assert store.path("prj_a", made.sha256).exists()
    assert "1 files removed" in gc("--older-than-seconds", "0", "--yes")
    assert not store.path("prj_a", made.sha256).exists()


def gc(*options: str) -> str:
    answer = CliRunner().invoke(cli.app, ["gc", *options])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_the_age_is_the_time_since_the_file_was_modified(database: Database, project_id: str, tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    old, _ = put(store, project_id, b"old"), put(store, project_id, b"young")
    os.utime(store.path(project_id, old.sha256), (1, 1))
    assert [entry.key for entry in garbage.find(database, store, 3600).unnamed] == [old.key]
