"""Logs of real processes: every line is JSON, each request and job is logged, an outage is logged once."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests import servers
from tests.conftest import need, wait_until
from tests.e2e.processes import answers, sensorium
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

BODY = {"inputs": {"audio": [[0.5, -1.0, 2.0]]}}
PARTS = {"api": ("api",), "train": ("worker", "train"), "data": ("worker", "data"), "infer": ("worker", "infer")}
ENDS = {
    "api": ("reply_channel_failed", "reply_channel_recovered"),
    **dict.fromkeys(("train", "data", "infer"), ("consumer: Cannot connect", "Connected to")),
}

Line = dict[str, Any]

pytestmark = pytest.mark.slow


@contextmanager
def _part(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes standard output and standard error to a file."""
    with log.open("ab") as file:
        command = [sys.executable, "-m", "service.cli", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(40) in (0, -signal.SIGTERM)


def _lines(log: Path) -> list[Line]:
    """The lines of a log; fails the test on a line that is not a JSON object."""
    found = []
    for line in log.read_text().splitlines():
        try:
            read = json.loads(line)
        except ValueError:
            pytest.fail(f"{log.name}: {line!r} is not JSON")
        assert {"event", "level", "logger", "timestamp"} <= read.keys(), line
        found.append(read)
    return found


def _refusal(probe: str) -> str:
    """The reason why a worker is not ready; empty if it is ready."""
    answer = httpx.get(probe)
    return "" if answer.is_success else answer.text


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Logs of a stack: a training, a cancellation, inference, an outage of Redis, and a graceful shutdown."""
    need(servers.redis_binary(), "Redis")
    folder = tmp_path_factory.mktemp("logs")
    port, probes = free_port(), []
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(folder / "home"),
        "SENSORIUM_PORT": str(port),
        "SENSORIUM_SECRET_KEY": secrets.token_hex(32),
        "SENSORIUM_INFERENCE_BACKEND": "celery",
        "SENSORIUM_HEARTBEAT_SECONDS": "0.3",
        "SENSORIUM_RECONCILE_SECONDS": "0.5",
        "SENSORIUM_LOG_JSON": "true",
    }
    with servers.redis_process(folder / "redis") as (url, redis), ExitStack() as stack:
        environment["SENSORIUM_BROKER"] = url
        sensorium(environment, "migrate")
        key = sensorium(environment, "key", "create", "test", "the test's")
        for name, arguments in PARTS.items():
            level = {"SENSORIUM_LOG_LEVEL": "DEBUG" if name == "api" else "INFO"}  # DEBUG logs every attempt
            own = level | ({"SENSORIUM_METRICS_PORT": str(free_port())} if name != "api" else {})
            stack.enter_context(_part(environment | own, folder / name, *arguments))
            probes += [f"http://127.0.0.1:{own['SENSORIUM_METRICS_PORT']}/readyz"] if name != "api" else []
        caller = Caller(f"http://127.0.0.1:{port}", key)
        wait_until(lambda: answers(caller), 60, "the API")
        caller.dataset("small")
        caller.http.headers["X-Request-ID"] = "the-run"
        run = caller.wait_for_state(caller.submit("small"), *FINAL)
        cancelled = caller.submit("small", epochs=100_000)
        wait_until(lambda: caller.run(cancelled)["phase"] == "training", 60, "training")
        caller.call("POST", f"/v1/runs/{cancelled}/cancel")
        caller.wait_for_state(cancelled, *FINAL)
        path = f"/v1/models/{run['model']}/versions/{run['version']}/encode"
        wait_until(lambda: caller.http.post(path, json=BODY).is_success, 60, "an infer worker")
        caller.http.get("/v1/runs", params={"tag": "secret-tag"})
        caller.http.get("/v1/none")
        redis.process.send_signal(signal.SIGKILL)
        redis.process.wait()
        wait_until(lambda: caller.call("GET", "/readyz")["status"] == "degraded", 30, "the outage is seen")
        for probe in probes:
            wait_until(lambda probe=probe: "broker" in _refusal(probe), 30, "workers are not ready")  # type: ignore[misc]
        for name, (began, _) in ENDS.items():
            wait_until(lambda name=name, began=began: began in (folder / name).read_text(), 30, f"{name} sees it")  # type: ignore[misc]
        assert caller.http.post(path, json=BODY).status_code == 503
        caller.submit("small", epochs=1)  # no wake-up can be sent
        wait_until(lambda: (folder / "api").read_text().count("reply_channel_failed") > 5, 30, "further attempts")
        redis.restart(signal.SIGKILL)
        redis.wait_until_ready()
        wait_until(lambda: caller.http.post(path, json=BODY).is_success, 60, "inference again")
        wait_until(lambda: caller.call("GET", "/readyz")["status"] == "ok", 30, "the outage is over")
        for probe in probes:
            wait_until(lambda probe=probe: not _refusal(probe), 30, "workers are ready")  # type: ignore[misc]
        job_log = caller.http.get(f"/v1/runs/{run['id']}/logs", params={"part": "all"}).text
        (folder / "job").write_text(job_log)
        stack.close()
        yield {"folder": folder, "run": run["id"], "cancelled": cancelled, "key": key}


@pytest.mark.parametrize("part", [*PARTS, "job"])
def test_every_line_is_json(logs: dict[str, Any], part: str) -> None:
    assert _lines(logs["folder"] / part)


def test_every_request_is_logged_with_its_route_and_without_secrets(logs: dict[str, Any]) -> None:
    text = (logs["folder"] / "api").read_text()
    served = [line for line in _lines(logs["folder"] / "api") if line["event"] == "request_served"]
    encoded = [line for line in served if line["route"] == "/v1/models/{name}/versions/{version}/encode"]
    (created, *_) = [line for line in served if (line["method"], line["route"]) == ("POST", "/v1/runs")]
    assert {line["status"] for line in encoded} == {200, 503}
    assert (created["status"], created["request_id"]) == (201, "the-run")
    assert created["project"].startswith("prj_")
    assert 0 < created["duration_seconds"] < 30
    assert [line["route"] for line in served if line["status"] == 404] == [None]
    assert {line["level"] for line in served if line["route"] in ("/healthz", "/readyz", "/metrics")} == {"debug"}
    assert logs["key"] not in text
    assert "secret-tag" not in text


def test_a_worker_logs_the_outcome_of_each_job(logs: dict[str, Any]) -> None:
    ended = [line for line in _lines(logs["folder"] / "train") if line["event"] == "job_ended"]
    assert [(line["run_id"], line["state"]) for line in ended[:2]] == [
        (logs["run"], "succeeded"),
        (logs["cancelled"], "cancelled"),
    ]
    for line in ended[:2]:
        assert (line["kind"], line["attempt"], line["request_id"]) == ("train", 1, "the-run")
        assert line["job_id"].startswith("job_")
        assert line["duration_seconds"] > 0
    *_, converted = [line for line in _lines(logs["folder"] / "data") if line["event"] == "job_ended"]
    assert (converted["kind"], converted["state"]) == ("convert", "succeeded")


@pytest.mark.parametrize("part", PARTS)
def test_an_outage_and_its_end_are_logged_once(logs: dict[str, Any], part: str) -> None:
    lines = _lines(logs["folder"] / part)
    lines = [line for line in lines if line["logger"] != "py.warnings"]
    troubles = Counter(line["event"][:40] for line in lines if line["level"] in ("warning", "error"))
    assert troubles, "the outage was not logged"
    assert max(troubles.values()) == 1, troubles
    began, ended = ENDS[part]
    events = [line["event"] for line in lines if line["level"] != "debug"]
    assert sum(event.startswith(began) for event in events) == 1
    assert sum(event.startswith(ended) for event in events) == (
        1 if part == "api" else 2
    )  # one more for Celery's first connection


def test_the_embedded_stack_and_its_child_processes_log_json_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {**os.environ, "SENSORIUM_LOG_JSON": "true"}
    with _part(environment, log, "serve", "--home", str(tmp_path / "home"), "--port", "0"):
        wait_until(lambda: "stack_started" in log.read_text(), 90, "the stack")
    events = [line["event"] for line in _lines(log)]
    assert "Application startup complete." in events


@pytest.mark.parametrize(
    ("arguments", "event", "status"),
    [
        (("worker", "trian"), "command_rejected", 2),
        (("api",), "start_failed", 1),
        (("worker", "data"), "start_failed", 1),
        (("migrate",), "start_failed", 1),
    ],
)
def test_a_failed_start_is_one_json_line(tmp_path: Path, arguments: tuple[str, ...], event: str, status: int) -> None:
    (tmp_path / "file").touch()
    environment = {**os.environ, "SENSORIUM_LOG_JSON": "true", "SENSORIUM_HOME": str(tmp_path / "file" / "home")}
    command = [sys.executable, "-m", "service.cli", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (status, "")
    (line,) = map(json.loads, ended.stderr.splitlines())
    assert (line["event"], line["level"]) == (event, "critical")


def test_commands_of_one_shot_containers_log_their_result(tmp_path: Path) -> None:
    environment = {**os.environ, "SENSORIUM_LOG_JSON": "true", "SENSORIUM_HOME": str(tmp_path / "home")}
    for arguments in (("migrate",), ("secrets", str(tmp_path / "secrets"))):
        command = [sys.executable, "-m", "service.cli", *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
        assert ended.stdout == ""
        assert {json.loads(line)["event"] for line in ended.stderr.splitlines()} <= {
            "schema_migrated",
            "secret_created",
        }
