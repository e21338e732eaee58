"""The HTTP port of a worker: `/metrics` for Prometheus, `/healthz` and `/readyz` for the process manager."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.registry import Collector

from service.shared.metrics_registry import CONTENT_TYPE, exposition
from service.shared.periodic_thread import PeriodicThread
from service.shared.settings import Settings

OK = "200 OK"
UNAVAILABLE = "503 Service Unavailable"
NOT_FOUND = "404 Not Found"
# A connection that is silent for so long is closed, and its thread ends.
IDLE_SECONDS = 15.0

Answer = tuple[str, str, bytes]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:
        """Probes come every few seconds and are not logged."""


class HealthServer:
    """Answers on `metrics_port` until it is closed. Without that setting no port is opened.

    threads: threads that must not hang, for `/healthz`. dependencies: for `/readyz`, whether each answers.
    """

    def __init__(
        self,
        settings: Settings,
        threads: Sequence[PeriodicThread],
        collectors: Sequence[Collector],
        dependencies: Mapping[str, Callable[[], bool]],
    ) -> None:
        self._threads = threads
        self._collectors = collectors
        self._dependencies = dependencies
        self._is_started = False
        self._server: WSGIServer | None = None
        if settings.metrics_port is not None:
            address = settings.metrics_host, settings.metrics_port
            self._server = make_server(*address, self._answer, _Server, _Handler)
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def mark_started(self, **_: object) -> None:
        """The worker receives messages from now on. Celery calls this with the arguments of its signal."""
        self._is_started = True

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        paths: dict[str, Callable[[], Answer]] = {
            "/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness,
        }  # fmt: skip
        answer = paths.get(request["PATH_INFO"])
        status, media_type, body = answer() if answer else _text(NOT_FOUND, ", ".join(paths))
        start(status, [("Content-Type", media_type), ("Content-Length", str(len(body)))])
        return [body]

    def _metrics(self) -> Answer:
        return OK, CONTENT_TYPE, exposition(self._collectors)

    def _health(self) -> Answer:
        if hanging := [thread.name for thread in self._threads if thread.hangs()]:
            return _text(UNAVAILABLE, f"these threads hang: {', '.join(hanging)}")
        return _text(OK, "ok")

    def _readiness(self) -> Answer:
        if not self._is_started:
            return _text(UNAVAILABLE, "the worker does not take messages yet")
        if silent := [name for name, answers in self._dependencies.items() if not answers()]:
            return _text(UNAVAILABLE, f"these do not answer: {', '.join(silent)}")
        return self._health()


def _text(status: str, line: str) -> Answer:
    return status, "text/plain", f"{line}\n".encode()
