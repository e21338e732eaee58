"""The probe of the containers' health checks."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.servers import free_port


class _Answer(BaseHTTPRequestHandler):
    is_worker = False

    def do_GET(self) -> None:
        self.send_response(200 if self.path == ("/readyz" if type(self).is_worker else "/healthz") else 503)
        self.end_headers()
        self.wfile.write(b"because")


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def probe(*url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.http.health_check", *url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_the_exit_status_and_the_reason_follow_the_answer(port: int) -> None:
    assert probe(SENSORIUM_PORT=str(port)).returncode == 0
    ill = probe(f"http://127.0.0.1:{port}/other")
    assert (ill.returncode, "503 because" in ill.stderr) == (1, True)
    away = probe(SENSORIUM_PORT=str(free_port()))
    assert away.returncode == 1
    assert "refused" in away.stderr
    assert "Traceback" not in away.stderr


def test_a_worker_is_healthy_when_it_receives_messages(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"SENSORIUM_METRICS_PORT": str(port), "SENSORIUM_PORT": "1"}
    assert probe(**environment).returncode == 1
    monkeypatch.setattr(_Answer, "is_worker", True)
    assert probe(**environment).returncode == 0


def test_proxies_of_the_environment_are_ignored(port: int) -> None:
    assert probe(SENSORIUM_PORT=str(port), http_proxy=f"http://127.0.0.1:{free_port()}").returncode == 0


def test_it_imports_only_the_standard_library() -> None:
    code = (
        "import sys, service.http.health_check; print({'fastapi', 'sqlalchemy', 'numpy', 'torch'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
