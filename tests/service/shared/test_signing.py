"""Tokens are read by whom they were made, and keys can be rotated."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.shared import signing
from service.shared.errors import Misconfigured
from service.shared.settings import Settings
from service.shared.signing import Forged, Signer

OLD, NEW = "old" * 12, "new" * 12


def test_a_token_says_what_was_signed_for_its_purpose_alone() -> None:
    signer = Signer([NEW])
    token = signer.sign("page", ["a", 1])
    assert signer.read("page", token) == ["a", 1]
    with pytest.raises(Forged):
        signer.read("state", token)


@pytest.mark.parametrize("token", ["", "a", "a.b", "ä", "." * 50, "bnVsbA.AAAA"])
def test_what_nobody_signed_is_refused(token: str) -> None:
    with pytest.raises(Forged):
        Signer([NEW]).read("page", token)


def test_while_keys_rotate_both_are_read_and_the_new_one_signs() -> None:
    before = Signer([OLD]).sign("page", 1)
    rotating = signing.from_settings(Settings(secret_key=SecretStr(NEW), previous_secret_key=SecretStr(OLD)))
    assert rotating.read("page", before) == 1
    made = rotating.sign("page", 2)
    assert Signer([NEW]).read("page", made) == 2
    with pytest.raises(Forged):
        Signer([NEW]).read("page", before)


def test_an_embedded_stack_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    token = signing.from_settings(settings).sign("page", 1)
    assert signing.from_settings(settings).read("page", token) == 1
    file = tmp_path / "home" / "secret-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret-key"]


@pytest.mark.parametrize("setting", [{"database": "postgresql+psycopg://h/d"}, {"broker": "redis://h/0"}])
def test_several_machines_need_a_key_that_somebody_chose(tmp_path: Path, setting: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="SENSORIUM_SECRET_KEY"):
        signing.from_settings(Settings(home=tmp_path, **setting))


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValidationError):
        Settings(secret_key=SecretStr("short"))
