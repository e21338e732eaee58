"""What keys, scopes, limits, audit, metrics, ids and the access log cost on a route that does next to nothing.

The same echo (decode a JSON body of numbers, encode it again) is served by FastAPI alone, and by our application with
everything on, as a route of Starlette like inference. Each runs in its own process, and wrk (Debian: apt-get install
wrk) sends requests to them in turn.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.routing import Route

from benchmarks.report import Figure, publish
from service.access import operations as access
from service.app import create_app
from service.http.authentication import Authentication, Operation
from service.http.protocol import BoundedProtocol
from service.shared import migrate
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.telemetry import configure_logging
from tests.conftest import wait_until
from tests.servers import free_port

CLIENTS = 64
SECONDS = 6
ROUNDS = 7
NUMBERS = 96
PER_MINUTE = 100_000_000
MIN_PART = 0.8
PATH = "/v1/echo"


def main() -> None:
    """Ask both servers in turns."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings(home=home)
        migrate.upgrade(settings.database_url)
        database = Database(settings.database_url)
        with database.writer.begin() as session:
            _, key = access.create_key(session, access.create_project(session, "echo").id, "echo")
        database.close()
        script = home / "request.lua"
        script.write_text(_script(key))
        rates: dict[str, list[float]] = {"bare": [], "guarded": []}
        with _server("bare", home) as bare, _server("guarded", home) as guarded:
            _check_equal(bare, guarded, key)
            for _ in range(ROUNDS):
                rates["bare"].append(_rate(bare, script))
                rates["guarded"].append(_rate(guarded, script))
            counted = httpx.get(f"{guarded}/metrics").text
    bare_rate, guarded_rate = (statistics.median(rates[name]) for name in ("bare", "guarded"))
    part = statistics.median(g / b for g, b in zip(rates["guarded"], rates["bare"], strict=True))
    answered = re.search(r'sensorium_requests_total\{operation="echo",status="200"\} ([\d.e+]+)', counted)
    publish(
        "auth_cost",
        [
            Figure(f"FastAPI alone, {CLIENTS} clients", bare_rate, "1/s", None, None),
            Figure("with keys, scopes, limits, audit, metrics, ids and access log", guarded_rate, "1/s", None, None),
            Figure("part that is left", part, "", f">= {MIN_PART}", part >= MIN_PART),
            Figure("requests that the metrics have counted", float(answered[1]) if answered else 0, "", None, None),
        ],
    )


async def echo(request: Request) -> Response:
    """Decode and encode again."""
    return Response(orjson.dumps(orjson.loads(await request.body())), media_type="application/json")


def serve(kind: str, port: int) -> None:
    """Run one of the two servers."""
    if kind == "bare":
        app = FastAPI()
        app.post(PATH)(echo)
    else:
        settings = Settings(project_requests_per_minute=PER_MINUTE)
        configure_logging(settings)
        app = create_app(settings)
        operation = Operation.of("echo", PATH, ("POST",), ("inference",), echo)
        middleware = [Middleware(Authentication, operation=operation)]
        app.router.routes.insert(0, Route(PATH, echo, methods=["POST"], middleware=middleware))  # like inference
    protocol: Any = "httptools" if kind == "bare" else BoundedProtocol
    uvicorn.run(app, port=port, http=protocol, log_config=None, access_log=False, reset_contextvars=kind != "bare")


@contextmanager
def _server(kind: str, home: Path) -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, "SENSORIUM_HOME": str(home), "SENSORIUM_LOG_JSON": "true"}
    command = [sys.executable, "-m", "benchmarks.auth_cost", kind, str(port)]
    with (home / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), 30, kind)
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code)
    except httpx.TransportError:
        return False


def _body() -> str:
    return json.dumps({"inputs": {"x": [[number / 7 for number in range(NUMBERS)]]}})


def _script(key: str) -> str:
    return (
        'wrk.method = "POST"\n'
        f"wrk.body = '{_body()}'\n"
        f'wrk.headers = {{["Content-Type"] = "application/json", ["Authorization"] = "Bearer {key}"}}\n'
    )


def _check_equal(bare: str, guarded: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    answers = [httpx.post(url + PATH, content=_body(), headers=headers) for url in (bare, guarded)]
    if answers[0].content != answers[1].content or not all(answer.is_success for answer in answers):
        raise SystemExit(f"the answers differ: {answers[0].text[:200]} and {answers[1].text[:200]}")
    if httpx.post(guarded + PATH, content=_body()).status_code != httpx.codes.UNAUTHORIZED:
        raise SystemExit("the guarded route answers strangers")


def _rate(url: str, script: Path) -> float:
    """Answered requests a second; ends the benchmark where one failed."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "-s", str(script), url + PATH]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if found is None:
        raise SystemExit(text)
    return float(found[1])


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(sys.argv[1], int(sys.argv[2]))
    else:
        main()
