"""End long requests of API keys that are revoked meanwhile: uploads, downloads and waits.

Authentication stores a `Revocation` in the ASGI scope; `service.http.middleware` asks it for every message.
"""

import asyncio
import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message

from service.access import scopes
from service.access.key_cache import KeyCache
from service.access.scopes import Scope
from service.shared.errors import Forbidden, Unauthenticated

REVOCATION = "revocation"
"""Where the scope of an authenticated request has its Revocation."""

# A process uses what it knows of a key for 1.6 s, so that a revoked key is served for 2 s at most.
CHECK_SECONDS = 0.3
# If the database hangs, the key counts as valid, and no part of a download waits longer than this.
ANSWER_SECONDS = 0.5
# Event streams end with an event that says why (`service.events.feed`).
EVENT_STREAM = b"text/event-stream"


class AccessEnded(Exception):
    """The key no longer has the access that the request began with. `why` is what a new request would get."""

    def __init__(self, why: Unauthenticated | Forbidden) -> None:
        super().__init__(why.detail)
        self.why = why


class Revocation:
    """Looks the key of one request up again, at most every CHECK_SECONDS. Its methods raise AccessEnded."""

    def __init__(self, keys: KeyCache, token: bytes, needed: Scope | None) -> None:
        self._keys, self._token, self._needed = keys, token, needed
        self._checked_at = time.monotonic()
        # The answer to a change is sent in any case: the change was made.
        self._checks_answer = needed not in scopes.CHANGING

    async def on_receive(self, message: Message) -> None:
        """Check the key when a part of the request's body arrives."""
        if message.get("body"):
            await self._check()

    async def on_send(self, message: Message) -> None:
        """Check the key before a part of the answer is sent."""
        if not self._checks_answer:
            return
        await self._check()
        if message["type"] == "http.response.start":
            self._checks_answer = not any(value.startswith(EVENT_STREAM) for _, value in message["headers"])

    async def _check(self) -> None:
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                principal = self._keys.cached(self._token) or await self._keys.principal(self._token)
            scopes.require(self._needed, principal.scopes)
        except (Unauthenticated, Forbidden) as error:
            raise AccessEnded(error) from error
        except (TimeoutError, SQLAlchemyError):
            pass
        self._checked_at = time.monotonic()
