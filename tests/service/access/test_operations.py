"""Projects and keys: the stored fields of a key, and the refused tokens."""

from collections.abc import Callable
from datetime import datetime

import pytest

from service.access import operations as access
from service.access.tables import ApiKey
from service.shared.database import Database, now
from service.shared.errors import Conflict, Unauthenticated


def test_a_token_stands_for_its_project(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        key_id = key.id
    with database.reader() as session:
        principal = access.authenticate(session, token)
    assert (principal.project_id, principal.key_id) == (project_id, key_id)
    assert principal.scopes == frozenset(access.SCOPES)


def test_only_the_hash_of_the_secret_is_kept(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        secret = token.removeprefix(f"sns_{key.prefix}_")
        kept = [getattr(key, column.key) for column in key.__table__.columns]
    assert len(secret) >= 43
    assert not any(isinstance(value, str) and secret in value for value in kept)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: "sns_",
        lambda token: "sns__",
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.replace("sns_", "abc_"),
        lambda token: token[4:],
        lambda token: "_".join([*token.split("_")[:2], ""]),
        lambda token: token.upper(),
        lambda token: "é" * 20,
    ],
)
def test_any_other_token_is_refused_in_the_same_words(
    database: Database, project_id: str, spoil: Callable[[str], str]
) -> None:
    with database.writer.begin() as session:
        _, token = access.create_key(session, project_id, "mine")
    with database.reader() as session, pytest.raises(Unauthenticated) as caught:
        access.authenticate(session, spoil(token))
    assert (caught.value.code, caught.value.status) == ("invalid_api_key", 401)


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_a_key_that_was_revoked_or_has_expired_is_refused(database: Database, project_id: str, column: str) -> None:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        setattr(key, column, now(-1.0))
    with database.reader() as session, pytest.raises(Unauthenticated):
        access.authenticate(session, token)


def test_a_key_that_expires_later_is_accepted(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        key, token = access.create_key(session, project_id, "mine")
        key.expires_at = now(60.0)
    with database.reader() as session:
        assert access.authenticate(session, token).project_id == project_id


def test_a_project_name_is_unique(database: Database, project_id: str) -> None:
    with database.writer.begin() as session, pytest.raises(Conflict):
        access.create_project(session, "test")


def test_the_last_use_of_a_key_is_written_once_a_minute(database: Database, project_id: str) -> None:
    with database.writer.begin() as session:
        key_id = access.create_key(session, project_id, "mine")[0].id

    def used(minutes_ago: float | None = None) -> datetime:
        with database.writer.begin() as session:
            if minutes_ago is not None:
                session.get_one(ApiKey, key_id).last_used_at = now(-60 * minutes_ago)
        with database.writer.begin() as session:
            access.note_use(session, key_id)
        with database.reader() as session:
            noted = session.get_one(ApiKey, key_id).last_used_at
        assert noted is not None
        return noted

    first = used()
    assert used() == first
    assert used(minutes_ago=0.5) < first
    assert used(minutes_ago=1.5) >= first
