"""A request that is served for long: its key is asked for again, so that revoking it ends uploads and downloads too."""

import asyncio
import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message, Receive, Send

from service.access import scopes
from service.access.key_cache import KeyCache
from service.access.scopes import Scope
from service.shared.errors import Forbidden, Unauthenticated

# With the 1.6 s that a process goes on with what it knows of a key, a revoked one is served for 2 s at most.
CHECK_SECONDS = 0.3
# A database that hangs says nothing about a key, and must not hold up every piece of a download.
ANSWER_SECONDS = 0.5
# Whoever follows events is told so by a last one (`service.jobs.event_feed`).
EVENT_STREAM = b"text/event-stream"


class AccessEnded(Exception):
    """The key may no longer do what it was let in for. `why` is what it would be told now."""

    def __init__(self, why: Unauthenticated | Forbidden) -> None:
        super().__init__(why.detail)
        self.why = why


class Watched:
    """What a route receives and sends, as ASGI has it, for as long as the key may. Both raise AccessEnded."""

    def __init__(self, keys: KeyCache, token: bytes, needed: Scope, receive: Receive, send: Send) -> None:
        self._keys, self._token, self._needed = keys, token, needed
        self._receive, self._send = receive, send
        self._checked_at = time.monotonic()
        self._ends_itself = False
        self.has_begun = False
        """Whether a part of the answer was sent."""

    async def receive(self) -> Message:
        """The next piece of the request's body."""
        message = await self._receive()
        if message["type"] == "http.request" and message.get("body"):
            await self._check()
        return message

    async def send(self, message: Message) -> None:
        """Send the next piece of the answer. One that tells of a change is sent: the change was made."""
        if self._needed not in scopes.CHANGING and not self._ends_itself:
            await self._check()
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._ends_itself = any(value.startswith(EVENT_STREAM) for _, value in message["headers"])
        await self._send(message)

    async def _check(self) -> None:
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                principal = self._keys.known(self._token) or await self._keys.principal(self._token)
            scopes.require(self._needed, principal.scopes)
        except (Unauthenticated, Forbidden) as error:
            raise AccessEnded(error) from error
        except (TimeoutError, SQLAlchemyError):
            pass
        self._checked_at = time.monotonic()
