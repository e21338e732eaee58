"""`sensorium doctor`: its findings in healthy and in broken installations."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from service.cli.doctor import Finding, State, examine
from service.shared import migrate, startup_checks
from service.shared.database import Database
from service.shared.errors import Misconfigured
from service.shared.settings import Settings
from service.shared.startup_checks import read_settings
from tests import schema
from tests.servers import free_port


def _found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


def test_a_healthy_installation_has_no_problem(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    schema.install(settings.database_url)
    found = _found(settings)
    assert [name for name, finding in found.items() if finding.state == State.PROBLEM] == []
    assert found.keys() == {
        "start", "database", "schema", "clock", "workers", "settings", "broker", "home", "storage", "devices",
        "packages",
    }  # fmt: skip
    assert found["workers"].state == State.WARNING
    assert "sensorium worker train" in found["workers"].advice
    assert list((tmp_path / "artifacts").rglob("doctor/*")) == []  # the test file was removed


WRONG = {
    "no secret key": {"SENSORIUM_BROKER": "redis://127.0.0.1:1/0"},
    "an unknown kind of broker": {"SENSORIUM_BROKER": "amqp://host"},
    "an unknown kind of database": {"SENSORIUM_DATABASE": "oracle+none://host/x"},
    "an impossible home folder": {"SENSORIUM_HOME": "/proc/none"},
    "values and contradictions": {"SENSORIUM_PORT": "many", "SENSORIUM_LEASE_SECONDS": "1"},
    "a short secret key": {"SENSORIUM_SECRET_KEY": "short"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_doctor_reports_the_faults_that_stop_the_api_in_the_same_words(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SENSORIUM_HOME": str(tmp_path), **WRONG[wrong]}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as raised:
        startup_checks.check(read_settings(), signs=True)
    doctor = CliRunner().invoke(cli.app, ["doctor"])
    assert doctor.exit_code == 1
    lines = [line for line in doctor.output.splitlines() if line.startswith("problem ")]
    for problem in raised.value.problems:
        assert any(line.endswith(problem) for line in lines), problem


def test_running_servers_have_no_problem(redis_url: str, empty_database_url: str, tmp_path: Path) -> None:
    schema.install(empty_database_url)
    found = _found(Settings(home=tmp_path, database=empty_database_url, broker=redis_url))
    assert found["schema"].state == State.OK
    assert found["clock"].state == State.OK
    assert "Redis " in found["broker"].detail


def test_unreachable_servers_are_named_without_their_passwords(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(
        home=tmp_path,
        database=f"postgresql+psycopg://someone:hidden@127.0.0.1:{port}/none",
        broker=f"redis://:hidden@127.0.0.1:{port}/0",
        secret_key="s" * 32,
    )
    found = _found(settings)
    for name in ("database", "broker"):
        assert found[name].state == State.PROBLEM
        assert str(port) in found[name].detail
        assert "hidden" not in found[name].detail
        assert found[name].advice
    assert found["packages"].state == State.OK  # the other checks still run


def test_a_misspelt_setting_is_reported_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_LEASE_SECOND", "60")
    found = _found(Settings(home=tmp_path))["settings"]
    assert found.state == State.WARNING
    assert "SENSORIUM_LEASE_SECOND" in found.detail
    assert "SENSORIUM_LEASE_SECONDS" in found.advice


def test_an_invalid_database_url_is_a_problem(tmp_path: Path) -> None:
    assert _found(Settings(home=tmp_path, database="nonsense://x"))["database"].state == State.PROBLEM


def test_an_older_schema_is_reported_until_it_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_HOME", str(tmp_path))
    settings = Settings(home=tmp_path)
    migrate.upgrade(settings.database_url, "0001")
    assert "at revision 0001" in _found(settings)["schema"].detail
    run = CliRunner().invoke
    checked = run(cli.app, ["db", "check"])
    assert checked.exit_code == 1
    assert run(cli.app, ["doctor"]).exit_code == 1
    assert run(cli.app, ["db", "migrate"]).exit_code == 0
    assert run(cli.app, ["db", "check"]).exit_code == 0
    assert run(cli.app, ["doctor"]).exit_code == 0


def test_a_folder_without_write_access_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = _found(Settings(home=tmp_path / "file" / "home"))
    for name in ("database", "broker", "home", "storage"):
        assert found[name].state == State.PROBLEM, name
        assert "file" in found[name].detail


def test_the_checks_change_no_rows(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    schema.install(settings.database_url)
    list(examine(settings))
    database = Database(settings.database_url)
    with database.reader() as session:
        assert session.connection().exec_driver_sql("select count(*) from artifacts").scalar() == 0
    database.close()
