"""Caches checked API keys, so that a request in steady state needs no SQL."""

import hashlib
import threading
import time
from dataclasses import replace

import structlog
from cachetools import TTLCache
from sqlalchemy.exc import SQLAlchemyError

from service.access import operations as access
from service.access.operations import LAST_USE_SECONDS, Principal
from service.access.quotas import effective
from service.shared.database import Database
from service.shared.outage_log import Outage
from service.shared.settings import Settings
from service.shared.stale_cache import StaleCache

log = structlog.get_logger(__name__)

# A cached key is checked again after FRESH_SECONDS, and not used after STALE_SECONDS. So all processes refuse a revoked
# key within 2 s.
FRESH_SECONDS = 0.8
STALE_SECONDS = 1.6
MAX_KEYS = 10_000


class KeyCache:
    """Caches principals and their effective quotas under the hash of the token. It does not store tokens."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._principals: StaleCache[bytes, bytes, Principal] = StaleCache(
            self._authenticate, FRESH_SECONDS, STALE_SECONDS, MAX_KEYS
        )
        self._lock = threading.Lock()
        self._outage = Outage(log, "key_use_update_failed", "key_use_update_recovered")
        self._recently_updated: TTLCache[str, bool] = TTLCache(MAX_KEYS, LAST_USE_SECONDS, timer=time.monotonic)

    def cached(self, token: bytes) -> Principal | None:
        """The cached principal of a token, or None."""
        return self._principals.cached(hashlib.sha256(token).digest(), token)

    async def principal(self, token: bytes) -> Principal:
        """The principal of a token. Raises Unauthenticated."""
        return await self._principals.get(hashlib.sha256(token).digest(), token)

    def invalidate(self, key_id: str) -> None:
        """Remove a revoked key from the cache."""
        self._principals.invalidate(lambda principal: principal.key_id == key_id)

    def invalidate_project(self, project_id: str) -> None:
        """Remove the keys of a project that was changed or deleted from the cache."""
        self._principals.invalidate(lambda principal: principal.project_id == project_id)

    def _authenticate(self, token: bytes) -> Principal:
        """Check the key in SQL, and update its last use about once a minute."""
        with self._database.reader() as session:
            principal = access.authenticate(session, token.decode("latin-1"))
        if self._must_update_use(principal.key_id):
            try:
                with self._database.writer.begin() as session:
                    access.note_use(session, principal.key_id)
                self._outage.works("keys")
            except SQLAlchemyError as error:  # on a full disk, read requests must still succeed
                self._outage.failed("keys", error)
        return replace(principal, quotas=effective(principal.quotas, self._settings))

    def _must_update_use(self, key_id: str) -> bool:
        with self._lock:
            if key_id in self._recently_updated:
                return False
            self._recently_updated[key_id] = True
            return True
