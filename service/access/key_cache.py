"""API keys that were checked a moment ago, so that a request in steady state asks SQL nothing."""

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

# After so long a key is asked for again, and meanwhile taken for what it was, but no longer than that: a key that was
# revoked elsewhere is refused within two seconds.
FRESH_SECONDS = 0.8
STALE_SECONDS = 1.6
MAX_KEYS = 10_000


class KeyCache:
    """Remembers principals, with the limits that hold for them, by the hash of their token; never the token."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._principals: StaleCache[bytes, bytes, Principal] = StaleCache(
            self._authenticate, FRESH_SECONDS, STALE_SECONDS, MAX_KEYS
        )
        self._lock = threading.Lock()
        self._outage = Outage(log, "key_use_not_noted", "key_use_noted_again")
        self._noted: TTLCache[str, bool] = TTLCache(MAX_KEYS, LAST_USE_SECONDS, timer=time.monotonic)

    def known(self, token: bytes) -> Principal | None:
        """Who has this key, if that was asked a moment ago."""
        return self._principals.cached(hashlib.sha256(token).digest(), token)

    async def principal(self, token: bytes) -> Principal:
        """Who has this key. Raises Unauthenticated."""
        return await self._principals.get(hashlib.sha256(token).digest(), token)

    def forget(self, key_id: str) -> None:
        """Ask SQL again for a key that was revoked just now."""
        self._principals.invalidate(lambda principal: principal.key_id == key_id)

    def _authenticate(self, token: bytes) -> Principal:
        """Ask SQL; about once a minute, write that the key is in use."""
        with self._database.reader() as session:
            principal = access.authenticate(session, token.decode("latin-1"))
        if self._is_to_be_noted(principal.key_id):
            try:
                with self._database.writer.begin() as session:
                    access.note_use(session, principal.key_id)
                self._outage.works("keys")
            except SQLAlchemyError as error:  # a full disk must not turn away those who only read
                self._outage.failed("keys", error)
        return replace(principal, quotas=effective(principal.quotas, self._settings))

    def _is_to_be_noted(self, key_id: str) -> bool:
        with self._lock:
            if key_id in self._noted:
                return False
            self._noted[key_id] = True
            return True
