"""API keys that were checked in the last second, so that a request in steady state asks SQL nothing."""

import hashlib
import threading
import time

from cachetools import TTLCache

from service.access import operations as access
from service.access.operations import LAST_USE_SECONDS, Principal
from service.shared.database import Database

FRESH_SECONDS = 1.0
MOST_KEYS = 10_000


class KeyCache:
    """Remembers principals by the hash of their token; never the token."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: TTLCache[bytes, Principal] = TTLCache(MOST_KEYS, FRESH_SECONDS)
        self._noted: TTLCache[str, bool] = TTLCache(MOST_KEYS, LAST_USE_SECONDS, timer=time.monotonic)
        self._lock = threading.Lock()

    def known(self, token: str) -> Principal | None:
        """The principal of a token that was looked up within the last second."""
        with self._lock:
            return self._known.get(_digest(token))

    def look_up(self, token: str) -> Principal:
        """Ask SQL, and remember; about once a minute, write that the key is in use. Raises Unauthenticated."""
        with self._database.reader() as session:
            principal = access.authenticate(session, token)
        with self._lock:
            self._known[_digest(token)] = principal
            noted = self._noted.get(principal.key_id, False)
            self._noted[principal.key_id] = True
        if not noted:
            with self._database.writer.begin() as session:
                access.note_use(session, principal.key_id)
        return principal

    def forget(self, key_id: str) -> None:
        """Ask SQL again for a key that was revoked just now."""
        with self._lock:
            for digest in [digest for digest, principal in self._known.items() if principal.key_id == key_id]:
                del self._known[digest]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
