"""Liveness and readiness while parts of an installation are unreachable."""

import shutil
import signal
from pathlib import Path

from fastapi.testclient import TestClient
from pydantic import SecretStr

from service.app import create_app
from service.shared.settings import Settings
from tests import schema, servers
from tests.conftest import need, wait_until
from tests.service.steps import problem


def test_a_moved_or_replaced_database_file_is_not_ready(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    schema.install(settings.database_url)
    file, aside = tmp_path / "sensorium.db", tmp_path / "aside.db"
    with TestClient(create_app(settings)) as http:
        assert http.get("/readyz").json()["status"] == "ok"
        file.rename(aside)
        refused = problem(http.get("/readyz"), 503, "database_unavailable")
        assert str(file) in refused["detail"]
        assert http.get("/healthz").status_code == 200
        aside.rename(file)
        assert http.get("/readyz").json()["status"] == "ok"
        shutil.copy(file, aside)
        aside.rename(file)
        problem(http.get("/readyz"), 503, "database_unavailable")


def _settings(home: Path, database: str, broker: str) -> Settings:
    return Settings(home=home, database=database, broker=broker, secret_key=SecretStr("s" * 32))


def test_without_redis_the_service_answers_degraded_at_once(postgresql_url: str, tmp_path: Path) -> None:
    need(servers.redis_binary(), "Redis")
    schema.install(postgresql_url)
    with (
        servers.redis_process(tmp_path / "redis") as (url, server),
        TestClient(create_app(_settings(tmp_path, postgresql_url, url))) as http,
    ):
        assert http.get("/readyz").json() == {"status": "ok", "impaired": []}
        server.process.send_signal(signal.SIGSTOP)  # it accepts connections and never answers
        try:
            degraded = {"status": "degraded", "impaired": ["broker"]}
            wait_until(lambda: http.get("/readyz").json() == degraded, 30, "degraded, while Redis hangs")
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: http.get("/readyz").json()["status"] == "ok", 30, "ready again")


def test_without_the_database_the_service_is_alive_and_not_ready(tmp_path: Path) -> None:
    away = f"postgresql+psycopg://me@127.0.0.1:{servers.free_port()}/none"
    with TestClient(create_app(_settings(tmp_path, away, "filesystem://"))) as http:
        problem(http.get("/readyz"), 503, "database_unavailable")
        assert http.get("/healthz").json() == {"status": "ok"}
        assert "sensorium_jobs" not in http.get("/metrics").text  # the other metrics are shown
