"""Finds files without a row and rows without a file, as a crash between the two leaves them."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.shared.database import Database
from service.shared.s3 import Entry
from service.shared.storage.artifact import Stored
from service.shared.storage.artifact_rows import lock, sweep
from service.shared.storage.storage import Storage
from service.shared.storage.tables import Artifact

# The name of an artifact. The folder or bucket may hold other files too.
ARTIFACT = re.compile(r"[^/]+/[0-9a-f]{64}")


class Garbage(NamedTuple):
    """What `find` found.

    unnamed: files without a row. leftovers: unfinished files. released: artifacts that no row refers to.
    missing: artifacts without a file.
    """

    unnamed: Sequence[Entry]
    leftovers: Sequence[Entry]
    released: Sequence[Stored]
    missing: Sequence[Stored]


def find(database: Database, storage: Storage, older_than_seconds: float) -> Garbage:
    """Compare files and rows. A file younger than this may be about to get its row, and is left out."""
    limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    # Before the rows are read: then the row of a file that is stored meanwhile is seen.
    entries = [entry for entry in storage.entries() if ARTIFACT.fullmatch(entry.key)]
    with database.reader() as session:
        rows = [(row.file, row.state) for row in _rows(session)]
    named, there = {stored.key for stored, _ in rows}, {entry.key for entry in entries}
    return Garbage(
        unnamed=[entry for entry in entries if entry.key not in named and entry.modified_at < limit],
        leftovers=[entry for entry in storage.leftovers() if entry.modified_at < limit],
        released=[stored for stored, state in rows if state == "deleting"],
        missing=[stored for stored, state in rows if state != "deleting" and stored.key not in there],
    )


def collect(database: Database, storage: Storage, garbage: Garbage) -> int:
    """Remove the files and the released artifacts. Rows of missing files stay. Returns the number of removed files."""
    removed = 0
    for entry in garbage.unnamed:
        project_id, _, sha256 = entry.key.partition("/")
        with database.writer.begin() as session:
            lock(session, project_id)
            if not _is_named(session, project_id, sha256):
                storage.remove(Stored(project_id, sha256, entry.size_bytes))
                removed += 1
    for entry in garbage.leftovers:
        (storage.root / entry.key).unlink(missing_ok=True)
    while swept := sweep(database, storage):
        removed += swept
    return removed + len(garbage.leftovers)


def _rows(session: Session) -> Iterator[Artifact]:
    yield from session.scalars(select(Artifact).execution_options(yield_per=1000))


def _is_named(session: Session, project_id: str, sha256: str) -> bool:
    query = select(Artifact.id).where(Artifact.project_id == project_id, Artifact.sha256 == sha256)
    return session.scalar(query) is not None
