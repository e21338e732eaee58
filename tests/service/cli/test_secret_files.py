"""`sensorium secrets`: the secret files of an installation of containers."""

import stat
import subprocess
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from typer.testing import CliRunner

from service import cli
from service.cli import secret_files
from service.shared.errors import Misconfigured
from service.shared.settings import Settings
from tests.conftest import need, wait_until
from tests.servers import free_port, is_open, redis_binary

OWN = ("sensorium_secret_key", "sensorium_database_password", "sensorium_broker_password")


def _read(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_the_first_call_generates_the_secrets_and_later_calls_keep_them(tmp_path: Path) -> None:
    assert secret_files.create(tmp_path, Settings()) == ["secret_key", "database_password", "broker_password"]
    made = _read(tmp_path)
    own = [made[f"sensorium/{name}"] for name in OWN]
    assert len(set(own)) == 3
    assert {len(secret) for secret in own} == {64}
    assert made["postgres/password"] == own[1]
    assert made["redis/redis.conf"] == f'requirepass "{own[2]}"\n'
    assert secret_files.create(tmp_path, Settings()) == []
    assert _read(tmp_path) == made


def test_only_the_owner_can_read_the_secrets_of_the_service(tmp_path: Path) -> None:
    secret_files.create(tmp_path, Settings())
    assert {stat.S_IMODE((tmp_path / "sensorium" / name).stat().st_mode) for name in OWN} == {0o400}
    assert stat.S_IMODE((tmp_path / "postgres" / "password").stat().st_mode) == 0o444  # read by PostgreSQL's user


def test_a_secret_of_the_settings_is_written_and_the_others_are_generated(tmp_path: Path) -> None:
    settings = Settings(database="postgresql+psycopg://me@host/x", database_password=SecretStr("chosen"))
    assert secret_files.create(tmp_path, settings) == ["secret_key", "broker_password"]
    assert (tmp_path / "postgres" / "password").read_text() == "chosen"
    (tmp_path / "redis" / "redis.conf").unlink()
    assert secret_files.create(tmp_path, settings) == []
    assert (tmp_path / "redis" / "redis.conf").exists()


def test_a_password_that_differs_from_the_stored_one_is_refused(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me@host/x"
    secret_files.create(tmp_path, Settings(database=url, database_password=SecretStr("first")))
    with pytest.raises(Misconfigured, match="ALTER ROLE"):
        secret_files.create(tmp_path, Settings(database=url, database_password=SecretStr("second")))
    assert (tmp_path / "postgres" / "password").read_text() == "first"


def test_redis_accepts_a_password_with_quotes_and_spaces(tmp_path: Path) -> None:
    program = redis_binary()
    need(program, "Redis")
    assert program is not None
    chosen = 'with "quotes", \\ and spaces'
    secret_files.create(tmp_path, Settings(broker="redis://host/0", broker_password=SecretStr(chosen)))
    port = free_port()
    command = [program, tmp_path / "redis" / "redis.conf", "--port", str(port), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(port), 10)
        assert redis.Redis(port=port, password=chosen).ping()
    finally:
        server.terminate()
        server.wait()


def test_the_command_prints_the_names_of_the_secrets_and_not_their_values(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli.app, ["secrets", str(tmp_path)])
    names = ["secret_key", "database_password", "broker_password"]
    assert printed.output.split("\n")[:-1] == [f"created {name}" for name in names]
