"""API keys that were checked a moment ago, so that a request in steady state asks SQL nothing."""

import asyncio
import hashlib
import threading
import time
from dataclasses import replace
from typing import NamedTuple

import structlog
from cachetools import TTLCache
from sqlalchemy.exc import SQLAlchemyError

from service.access import operations as access
from service.access.operations import LAST_USE_SECONDS, Principal
from service.access.quotas import effective
from service.shared.database import Database
from service.shared.settings import Settings

log = structlog.get_logger(__name__)

# After so long a key is asked for again, and meanwhile taken for what it was, but no longer than that: a key that was
# revoked elsewhere is refused within two seconds.
FRESH_SECONDS = 0.8
STALE_SECONDS = 1.6
MOST_KEYS = 10_000


class _Known(NamedTuple):
    principal: Principal
    asked_at: float


class KeyCache:
    """Remembers principals, with the limits that hold for them, by the hash of their token; never the token.

    Of many requests with one key at once, one asks SQL. All of it happens in one event loop, but `forget`.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._known: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[Principal]] = {}
        self._forgotten = 0
        self._lock = threading.Lock()
        self._noted: TTLCache[str, bool] = TTLCache(MOST_KEYS, LAST_USE_SECONDS, timer=time.monotonic)

    def known(self, token: bytes) -> Principal | None:
        """Who has this key, if that was asked a moment ago; soon it is asked again."""
        digest = hashlib.sha256(token).digest()
        known = self._known.get(digest)
        if known is None:
            return None
        age = time.monotonic() - known.asked_at
        if age >= FRESH_SECONDS and digest not in self._asking:
            self._ask(digest, token)
        return known.principal if age < STALE_SECONDS else None

    async def principal(self, token: bytes) -> Principal:
        """Who has this key. Raises Unauthenticated."""
        if (known := self.known(token)) is not None:
            return known
        digest = hashlib.sha256(token).digest()
        return await asyncio.shield(self._asking.get(digest) or self._ask(digest, token))

    def forget(self, key_id: str) -> None:
        """Ask SQL again for a key that was revoked just now."""
        self._forgotten += 1  # who is asking SQL just now may have been told what held before
        for digest, known in list(self._known.items()):
            if known.principal.key_id == key_id:
                self._known.pop(digest, None)

    def _ask(self, digest: bytes, token: bytes) -> asyncio.Task[Principal]:
        task = asyncio.create_task(self._look_up(digest, token))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it
        self._asking[digest] = task
        return task

    async def _look_up(self, digest: bytes, token: bytes) -> Principal:
        asked_at, forgotten = time.monotonic(), self._forgotten
        try:
            principal = await asyncio.to_thread(self._authenticate, token.decode("latin-1"))
        except BaseException:
            self._known.pop(digest, None)
            raise
        finally:
            del self._asking[digest]
        if len(self._known) >= MOST_KEYS:
            self._known.clear()
        if forgotten == self._forgotten:
            self._known[digest] = _Known(principal, asked_at)
        return principal

    def _authenticate(self, token: str) -> Principal:
        """Ask SQL; about once a minute, write that the key is in use."""
        with self._database.reader() as session:
            principal = access.authenticate(session, token)
        if self._is_to_be_noted(principal.key_id):
            try:
                with self._database.writer.begin() as session:
                    access.note_use(session, principal.key_id)
            except SQLAlchemyError as error:  # a full disk must not turn away those who only read
                log.warning("key_use_not_noted", key_id=principal.key_id, error=str(error))
        return replace(principal, quotas=effective(principal.quotas, self._settings))

    def _is_to_be_noted(self, key_id: str) -> bool:
        with self._lock:
            if key_id in self._noted:
                return False
            self._noted[key_id] = True
            return True
