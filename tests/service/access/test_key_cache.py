"""The key cache: cached keys need no SQL, and revoked keys are refused soon."""

import asyncio
import threading
from collections.abc import Awaitable
from types import SimpleNamespace

import pytest

from service.access import key_cache as cache
from service.access import operations as access
from service.access.key_cache import KeyCache
from service.access.operations import Principal
from service.access.tables import ApiKey
from service.shared import stale_cache
from service.shared.database import Database, now
from service.shared.errors import Unauthenticated
from service.shared.settings import Settings


def made(database: Database, project_id: str) -> tuple[str, str]:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        return key.id, token


def revoke(database: Database, key_id: str) -> None:
    with database.writer.begin() as session:
        session.get_one(ApiKey, key_id).revoked_at = now()


class Asked(list[str]):
    """The tokens that were looked up in SQL; a lookup returns while `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    tokens, real = Asked(), access.authenticate

    def counted(session: object, token: str) -> Principal:
        tokens.append(token)
        assert tokens.go.wait(60)
        return real(session, token)  # type: ignore[arg-type]

    monkeypatch.setattr(cache.access, "authenticate", counted)
    return tokens


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the cache: one number, which the test increases."""
    times = [1000.0]
    monkeypatch.setattr(stale_cache, "time", SimpleNamespace(monotonic=lambda: times[0]))
    return times


def test_many_requests_at_once_ask_sql_once(database: Database, project_id: str, asked: Asked) -> None:
    _, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> set[str]:
        found = await asyncio.gather(*(keys.principal(token.encode()) for _ in range(50)))
        return {principal.project_id for principal in [*found, await keys.principal(token.encode())]}

    assert asyncio.run(ask()) == {project_id}
    assert asked == [token]


def test_a_cached_key_is_reloaded_in_the_background(
    database: Database, project_id: str, asked: Asked, clock: list[float]
) -> None:
    _, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> None:
        await keys.principal(token.encode())
        clock[0] += cache.FRESH_SECONDS + 0.1
        asked.go.clear()  # SQL does not answer; the caller gets the cached key
        assert (await keys.principal(token.encode())).project_id == project_id
        asked.go.set()
        while len(asked) < 2:  # the lookup runs in a thread, which starts later
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert asked == [token] * 2


def test_a_revoked_key_is_refused_within_two_seconds(database: Database, project_id: str, clock: list[float]) -> None:
    key_id, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> None:
        await keys.principal(token.encode())
        revoke(database, key_id)
        clock[0] += 2.0
        await keys.principal(token.encode())

    with pytest.raises(Unauthenticated):
        asyncio.run(ask())


def test_a_key_that_was_revoked_here_is_refused_at_once(database: Database, project_id: str) -> None:
    key_id, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> None:
        await keys.principal(token.encode())
        revoke(database, key_id)
        keys.invalidate(key_id)
        await keys.principal(token.encode())

    with pytest.raises(Unauthenticated):
        asyncio.run(ask())


def test_a_refused_token_is_not_cached(database: Database, project_id: str, asked: Asked) -> None:
    keys = KeyCache(database, Settings())

    async def ask(times: int) -> list[bool]:
        return [await _refused(keys.principal(b"sns_0123_wrong")) for _ in range(times)]

    assert asyncio.run(ask(3)) == [True] * 3
    assert len(asked) == 3


async def _refused(asking: Awaitable[Principal]) -> bool:
    try:
        await asking
    except Unauthenticated:
        return True
    return False
