"""Invalid settings: one message lists all of them by name, without secrets and without a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.shared import startup_checks
from service.shared.errors import Misconfigured
from service.shared.settings import Settings
from service.shared.startup_checks import read_settings
from tests.contract.test_messages import LIBRARIES
from tests.servers import free_port


def _started(*module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
    command = [sys.executable, "-m", *module]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=300)


def test_one_message_lists_invalid_values_and_contradictions(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "PORT": "many",
        "LOG_LEVEL": "LOUD",
        "SOURCE_PREFIXES": "s3://bucket",
        "LEASE_SECONDS": "1",
        "INFERENCE_BACKEND": "celery",
        "STORAGE": "gs://bucket",
        "S3_ACCESS_KEY_ID": "key",
        "SECRET_KEY": "p" * 31,
        "DATABASE_PASSWORD": "hidden",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"SENSORIUM_{name}", value)
    with pytest.raises(Misconfigured) as raised:
        read_settings()
    told = str(raised.value)
    assert told.startswith(f"{len(wrong)} settings are wrong:")
    for name in wrong:
        assert f"\n  SENSORIUM_{name} " in told
    assert "SENSORIUM_PORT is 'many', expected a whole number" in told
    assert "SENSORIUM_LOG_LEVEL is 'LOUD', expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR'" in told
    assert 'SENSORIUM_SOURCE_PREFIXES is not JSON, expected a list such as ["s3://bucket/prefix"]' in told
    assert not LIBRARIES.search(told)


def test_secrets_and_urls_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_SECRET_KEY", "tooshort")
    monkeypatch.setenv("SENSORIUM_DATABASE", "postgresql+psycopg://me:hidden@host:port/x")
    with pytest.raises(Misconfigured) as raised:
        read_settings()
    assert "at least 32" in str(raised.value)
    assert "SENSORIUM_DATABASE" in str(raised.value)
    assert "tooshort" not in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_files_set_the_fields_without_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sensorium_secret_key").write_text("f" * 32 + "\n")
    (tmp_path / "sensorium_database_password").write_text("p@ss:/word\n")
    (tmp_path / "sensorium_port").write_text("1")
    monkeypatch.setenv("SENSORIUM_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("SENSORIUM_PORT", "2")
    monkeypatch.setenv("SENSORIUM_DATABASE", "postgresql+psycopg://me@host/x")
    settings = read_settings()
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "f" * 32
    assert settings.port == 2
    assert settings.database_url == "postgresql+psycopg://me:p%40ss%3A%2Fword@host/x"
    monkeypatch.setenv("SENSORIUM_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="no such folder"):
        read_settings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"database": "postgresql+psycopg://me:old@host/x"}, "has a password already"),
        ({"database": "sqlite:///file"}, "names no server"),
    ],
)
def test_a_password_needs_a_url_that_accepts_it(given: dict[str, str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        read_settings(**given, database_password="hidden")


def test_folder_driver_and_key_are_checked_together(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(home=tmp_path / "file" / "home", database="oracle+none://host/x")
    with pytest.raises(Misconfigured) as raised:
        startup_checks.check(settings, signs=True)
    assert [line.split()[0] for line in str(raised.value).splitlines()[1:]] == [
        "SENSORIUM_DATABASE", "SENSORIUM_HOME", "SENSORIUM_SECRET_KEY",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "module", [("service.cli", "api"), ("service.cli", "worker", "train"), ("service.cli", "db", "migrate")]
)
def test_no_process_starts_with_wrong_settings(module: tuple[str, ...]) -> None:
    ended = _started(*module, SENSORIUM_LEASE_SECONDS="1", SENSORIUM_LOG_LEVEL="LOUD", SENSORIUM_HOME="/proc/none")
    assert ended.returncode == 1
    assert ended.stderr.startswith("sensorium: 2 settings are wrong:")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "module", [("service.cli", "api"), ("service.cli", "worker", "data"), ("service.cli", "db", "migrate")]
)
def test_an_unwritable_folder_is_named(module: tuple[str, ...]) -> None:
    ended = _started(*module, SENSORIUM_HOME="/proc/none")
    assert ended.returncode == 1
    assert "SENSORIUM_HOME is /proc/none" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "module", [("service.cli", "worker", "data"), ("service.cli", "db", "migrate"), ("service.cli", "db", "check")]
)
def test_an_unreachable_database_is_named(module: tuple[str, ...], tmp_path: Path) -> None:
    port = free_port()
    url = f"postgresql+psycopg://me:hidden@127.0.0.1:{port}/x"
    ended = _started(*module, SENSORIUM_HOME=str(tmp_path), SENSORIUM_DATABASE=url)
    assert ended.returncode == 1
    assert f"port {port} failed" in ended.stderr
    assert "SENSORIUM_DATABASE" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr


def test_the_checks_create_no_folders(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "some" / "home")
    startup_checks.check(settings)
    assert not list(tmp_path.iterdir())


def test_migrate_creates_the_home_with_mode_0700(tmp_path: Path) -> None:
    home = tmp_path / "some" / "home"
    ended = _started("service.cli", "db", "migrate", SENSORIUM_HOME=str(home))
    assert ended.returncode == 0, ended.stderr
    assert (home / "sensorium.db").exists()
    assert home.stat().st_mode & 0o777 == 0o700


def test_messages_about_every_invalid_setting_are_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable gets several texts; most of them are invalid."""
    told = []
    for name in Settings.model_fields:
        for text in ("?", "-1", "nan", "1.5", "x://", "9" * 5000, "é", "[", "{}"):
            with monkeypatch.context() as variables:
                variables.setenv(f"SENSORIUM_{name.upper()}", text)
                try:
                    read_settings()
                except Misconfigured as error:
                    told.append(error.detail)
    assert len(told) > 200
    for detail in told:
        assert not LIBRARIES.search(detail), detail
        assert re.match("(SENSORIUM|CUDA)_[A-Z0-9_]+ (is|has|needs) ", detail), detail
        assert len(detail) < 300
