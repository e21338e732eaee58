"""Cache which version a number or an alias names, so that inference in steady state runs no SQL."""

from models.config import parse
from service.inference.queries import Version
from service.registry import operations as registry
from service.shared.database import Database
from service.shared.stale_cache import StaleCache

# Older entries are looked up again, and are used meanwhile: within two seconds a process notices that an alias moved or
# a version was deleted.
FRESH_SECONDS = 0.8
STALE_SECONDS = 1.6
MAX_VERSIONS = 10_000

Named = tuple[str, str, str]
"""Project, model, and the number or alias of a version; empty for `production`, or the newest without that alias."""


class VersionCache:
    """The versions that were looked up in the last second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._versions: StaleCache[Named, Named, Version] = StaleCache(
            self._look_up, FRESH_SECONDS, STALE_SECONDS, MAX_VERSIONS
        )

    async def find(self, project_id: str, model: str, reference: str) -> Version:
        """A version by its number or an alias. Raises NotFound."""
        named = project_id, model, reference
        return await self._versions.get(named, named)

    def _look_up(self, named: Named) -> Version:
        project_id, model, reference = named
        with self._database.reader() as session:
            row, artifact = registry.find_version(session, project_id, model, reference)
            return Version(
                id=row.id,
                project_id=project_id,
                model=model,
                number=row.version,
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
                config=parse(row.config),
            )
