"""Model versions that were looked up in the last second, so that inference in steady state asks SQL nothing."""

import threading

from cachetools import TTLCache

from models.config import parse
from service.inference.questions import Version
from service.registry import operations as registry
from service.shared.database import Database

FRESH_SECONDS = 1.0
MOST_VERSIONS = 10_000


class VersionCache:
    """Remembers versions by project, model and number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: TTLCache[tuple[str, str, int], Version] = TTLCache(MOST_VERSIONS, FRESH_SECONDS)
        self._lock = threading.Lock()

    def known(self, project_id: str, model: str, number: int) -> Version | None:
        """A version that was looked up within the last second."""
        with self._lock:
            return self._known.get((project_id, model, number))

    def look_up(self, project_id: str, model: str, number: int) -> Version:
        """Ask SQL, and remember. Raises NotFound."""
        with self._database.reader() as session:
            _, row, artifact = registry.find_version(session, project_id, model, number)
            version = Version(
                id=row.id,
                project_id=project_id,
                model=model,
                number=number,
                config=parse(row.config),
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
            )
        with self._lock:
            self._known[project_id, model, number] = version
        return version
