"""A worker's own small port: `/metrics` for Prometheus, `/healthz` for whoever restarts what hangs, and `/readyz` for
whoever waits for it to begin.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.registry import Collector

from service.shared.metrics import CONTENT_TYPE, exposition
from service.shared.settings import Settings
from service.shared.ticker import Ticker

Answer = tuple[str, str, bytes]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 15.0  # seconds of silence before a connection, and its thread, ends

    def log_message(self, format: str, *arguments: Any) -> None:
        """Those who look every few seconds are no news."""


class HealthServer:
    """Answers on `metrics_port` until it is closed; nowhere, where that is unset.

    needs: whether each part answers that the worker takes work from.
    """

    def __init__(
        self,
        settings: Settings,
        tickers: Sequence[Ticker],
        collectors: Sequence[Collector],
        needs: Mapping[str, Callable[[], bool]],
    ) -> None:
        self._needs = needs
        self._tickers = tickers
        self._collectors = collectors
        self._is_ready = False
        self._server: WSGIServer | None = None
        if settings.metrics_port is not None:
            place = settings.metrics_host, settings.metrics_port
            self._server = make_server(*place, self._answer, _Server, _Silent)
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def ready(self, **_: object) -> None:
        """From here on messages are taken."""
        self._is_ready = True

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        paths: dict[str, Callable[[], Answer]] = {
            "/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness,
        }  # fmt: skip
        answer = paths.get(request["PATH_INFO"])
        status, kind, body = answer() if answer else ("404 Not Found", "text/plain", f"{', '.join(paths)}\n".encode())
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _metrics(self) -> Answer:
        return "200 OK", CONTENT_TYPE, exposition(self._collectors)

    def _health(self) -> Answer:
        hanging = [ticker.name for ticker in self._tickers if ticker.hangs()]
        if hanging:
            return "503 Service Unavailable", "text/plain", f"these do not go on: {', '.join(hanging)}\n".encode()
        return "200 OK", "text/plain", b"ok\n"

    def _readiness(self) -> Answer:
        if not self._is_ready:
            return "503 Service Unavailable", "text/plain", b"it has not begun to take messages\n"
        if away := [name for name, answers in self._needs.items() if not answers()]:
            return "503 Service Unavailable", "text/plain", f"these do not answer: {', '.join(away)}\n".encode()
        return self._health()
