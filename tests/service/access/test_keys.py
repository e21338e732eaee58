"""Keys that were checked within the last second are not asked of SQL again, and are forgotten soon."""

import pytest

from service.access import operations as access
from service.access.keys import FRESH_SECONDS, KeyCache
from service.shared.database import Database, now
from service.shared.errors import Unauthenticated
from service.shared.tables import ApiKey
from tests.conftest import wait_until


def test_a_key_that_was_looked_up_is_known_and_a_revoked_one_is_soon_forgotten(
    database: Database, project_id: str
) -> None:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        key_id = key.id
    keys = KeyCache(database)
    assert keys.known(token) is None
    principal = keys.look_up(token)
    assert keys.known(token) == principal
    with database.writer.begin() as session:
        session.get_one(ApiKey, key_id).revoked_at = now()
    wait_until(lambda: keys.known(token) is None, seconds=FRESH_SECONDS + 2)
    with pytest.raises(Unauthenticated):
        keys.look_up(token)


def test_a_refused_token_is_not_remembered(database: Database, project_id: str) -> None:
    keys = KeyCache(database)
    with pytest.raises(Unauthenticated):
        keys.look_up("sns_0123_wrong")
    assert keys.known("sns_0123_wrong") is None
