"""Signed tokens: purposes, forgeries, key rotation, and the generated key."""

import stat
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.shared import signing
from service.shared.errors import Misconfigured
from service.shared.settings import Settings
from service.shared.signing import Forged, Signer

OLD, NEW = "old" * 12, "new" * 12


def test_a_token_is_valid_only_for_its_purpose() -> None:
    signer = Signer([NEW])
    token = signer.sign("page", ["a", 1])
    assert signer.read("page", token) == ["a", 1]
    with pytest.raises(Forged):
        signer.read("state", token)


@pytest.mark.parametrize("token", ["", "a", "a.b", "ä", "." * 50, "bnVsbA.AAAA"])
def test_a_token_with_an_invalid_signature_is_refused(token: str) -> None:
    with pytest.raises(Forged):
        Signer([NEW]).read("page", token)


def _of(*keys: str) -> Signer:
    return signing.from_settings(Settings(secret_key=SecretStr(",".join(keys))))


def test_the_first_key_signs_and_all_keys_are_accepted() -> None:
    accepting, signing_new = _of(OLD, NEW), _of(NEW, OLD)
    assert Signer([OLD]).read("page", accepting.sign("page", 1)) == 1
    assert Signer([NEW]).read("page", signing_new.sign("page", 2)) == 2
    for signer in (accepting, signing_new, _of(OLD, f" {NEW} ")):
        assert [signer.read("page", Signer([key]).sign("page", 3)) for key in (OLD, NEW)] == [3, 3]
    with pytest.raises(Forged):
        Signer([NEW]).read("page", Signer([OLD]).sign("page", 1))


def test_processes_one_rotation_step_apart_accept_each_others_tokens() -> None:
    steps = [_of(OLD), _of(OLD, NEW), _of(NEW, OLD), _of(NEW)]
    for one, other in pairwise(steps):
        assert other.read("page", one.sign("page", 1)) == 1
        assert one.read("page", other.sign("page", 2)) == 2


def test_the_embedded_stack_generates_a_key_with_mode_0600(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    token = signing.from_settings(settings).sign("page", 1)
    assert signing.from_settings(settings).read("page", token) == 1
    file = tmp_path / "home" / "secret-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret-key"]


@pytest.mark.parametrize("setting", [{"database": "postgresql+psycopg://h/d"}, {"broker": "redis://h/0"}])
def test_a_server_installation_requires_a_secret_key(tmp_path: Path, setting: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="SENSORIUM_SECRET_KEY"):
        signing.from_settings(Settings(home=tmp_path, **setting))


@pytest.mark.parametrize("given", ["short", f"{OLD},", f"{OLD},short", ","])
def test_a_short_key_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(ValidationError, match="expected at least 32 in each key") as refused:
        Settings(secret_key=SecretStr(given))
    assert OLD not in str(refused.value)
    assert "short" not in str(refused.value)
