"""Keys that were checked a moment ago are not asked of SQL again, and revoked ones are forgotten soon."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from service.access import keys as cache
from service.access import operations as access
from service.access.keys import STALE_SECONDS, KeyCache
from service.access.operations import Principal
from service.shared.database import Database, now
from service.shared.errors import Unauthenticated
from service.shared.settings import Settings
from service.shared.tables import ApiKey


def made(database: Database, project_id: str) -> tuple[str, str]:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        return key.id, token


def revoke(database: Database, key_id: str) -> None:
    with database.writer.begin() as session:
        session.get_one(ApiKey, key_id).revoked_at = now()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that SQL was asked for."""
    tokens: list[str] = []
    real = access.authenticate

    def counted(session: object, token: str) -> Principal:
        tokens.append(token)
        time.sleep(0.05)
        return real(session, token)  # type: ignore[arg-type]

    monkeypatch.setattr(cache.access, "authenticate", counted)
    return tokens


def test_many_requests_at_once_ask_sql_once(database: Database, project_id: str, asked: list[str]) -> None:
    _, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> set[str]:
        found = await asyncio.gather(*(keys.principal(token.encode()) for _ in range(50)))
        return {principal.project_id for principal in [*found, await keys.principal(token.encode())]}

    assert asyncio.run(ask()) == {project_id}
    assert asked == [token]


def test_a_key_is_asked_for_again_while_it_serves(database: Database, project_id: str, asked: list[str]) -> None:
    _, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> float:
        await keys.principal(token.encode())
        await asyncio.sleep(cache.FRESH_SECONDS + 0.1)
        before = time.monotonic()
        await keys.principal(token.encode())
        waited = time.monotonic() - before
        await asyncio.sleep(0.3)
        return waited

    assert asyncio.run(ask()) < 0.04
    assert len(asked) == 2


def test_a_revoked_key_is_refused_within_two_seconds(database: Database, project_id: str) -> None:
    key_id, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def until_refused(then: Callable[[], None]) -> float:
        await keys.principal(token.encode())
        then()
        revoked_at = time.monotonic()
        while time.monotonic() - revoked_at < 5:
            try:
                await keys.principal(token.encode())
            except Unauthenticated:
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - revoked_at

    assert asyncio.run(until_refused(lambda: revoke(database, key_id))) < STALE_SECONDS + 0.3


def test_a_key_that_was_revoked_here_is_refused_at_once(database: Database, project_id: str) -> None:
    key_id, token = made(database, project_id)
    keys = KeyCache(database, Settings())

    async def ask() -> None:
        await keys.principal(token.encode())
        revoke(database, key_id)
        keys.forget(key_id)
        await keys.principal(token.encode())

    with pytest.raises(Unauthenticated):
        asyncio.run(ask())


def test_a_refused_token_is_asked_for_every_time(database: Database, project_id: str, asked: list[str]) -> None:
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
