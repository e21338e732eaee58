"""The HTTP port of a worker: metrics, liveness and readiness."""

import threading
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from service.shared import periodic_thread
from service.shared.periodic_thread import PeriodicThread
from service.shared.settings import Settings
from tests.conftest import Service, wait_until
from tests.servers import free_port, is_open
from worker.health import HealthServer
from worker.metrics import LeaseCollector


@pytest.fixture
def stuck() -> Iterator[PeriodicThread]:
    released = []
    stuck = PeriodicThread("stuck", 0.01, lambda: wait_until(lambda: released, 60))
    stuck.start()
    yield stuck
    released.append(True)
    stuck.close()


def test_health_check_names_a_hanging_thread(
    stuck: PeriodicThread, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(metrics_port=free_port())
    health = HealthServer(settings, [stuck], [LeaseCollector(service.worker)], {})
    url = f"http://127.0.0.1:{settings.metrics_port}"
    try:
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        monkeypatch.setattr(periodic_thread, "HANGING_SECONDS", 0.05)
        wait_until(lambda: httpx.get(f"{url}/healthz").status_code == 503, what="the thread hangs")
        answer = httpx.get(f"{url}/healthz")
        assert (answer.status_code, "stuck" in answer.text) == (503, True)
        assert "sensorium_worker_busy 0.0" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/other").status_code == 404
    finally:
        health.close()
    assert not is_open(settings.metrics_port or 0)


def test_worker_is_ready_once_it_receives_messages(service: Service) -> None:
    settings = Settings(metrics_port=free_port())
    health = HealthServer(settings, [], [], {})
    url = f"http://127.0.0.1:{settings.metrics_port}/readyz"
    try:
        assert httpx.get(url).status_code == 503
        health.mark_started()
        assert httpx.get(url).text == "ok\n"
    finally:
        health.close()


def test_worker_is_not_ready_while_a_dependency_is_unreachable(service: Service) -> None:
    settings = Settings(metrics_port=free_port())
    present = {"broker": True, "database": True}
    health = HealthServer(settings, [], [], {name: lambda name=name: present[name] for name in present})  # type: ignore[misc]
    health.mark_started()
    url = f"http://127.0.0.1:{settings.metrics_port}"
    try:
        assert httpx.get(f"{url}/readyz").text == "ok\n"
        present["broker"] = False
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (503, "these do not answer: broker\n")
        assert httpx.get(f"{url}/healthz").text == "ok\n"
    finally:
        health.close()


def test_no_port_is_opened_without_the_setting() -> None:
    before = threading.enumerate()
    health = HealthServer(Settings(), [], [], {})
    assert threading.enumerate() == before  # nothing serves
    health.close()


def test_dead_thread_counts_as_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def die() -> None:
        raise SystemExit

    dead = PeriodicThread("dead", 0.01, die)
    assert not dead.hangs()  # it was not started yet
    dead.start()
    dead.join(10)
    assert dead.hangs()
