"""Load from wrk (Debian: apt-get install wrk): one body asked again and again by some clients at once."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx

ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Target:
    """What is asked, and where."""

    name: str
    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Load(NamedTuple):
    """What came of it. Latencies are those that a client has seen."""

    rate: float
    median_ms: float
    p99_ms: float
    mean_ms: float
    requests: int


_SCRIPT = """
local file = io.open([==[{body}]==], "rb")
wrk.method, wrk.body, wrk.headers = "POST", file:read("*a"), {{{headers}}}
file:close()
function done(summary, latency)
    local e = summary.errors
    local failed = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format(
        '{{"seconds": %.6f, "requests": %d, "failed": %d, "p50": %.1f, "p99": %.1f, "mean": %.1f}}\\n',
        summary.duration / 1e6, summary.requests, failed, latency:percentile(50), latency:percentile(99), latency.mean
    ))
end
"""


def check_installed() -> None:
    """End the benchmark where there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")


def post(target: Target) -> httpx.Response:
    """Ask once. Ends the benchmark when that is refused."""
    headers = {"Content-Type": "application/json", **target.headers}
    answer = httpx.post(target.url, content=target.body, headers=headers, timeout=30)
    if not answer.is_success:
        raise SystemExit(f"{target.name} answers {answer.status_code}: {answer.text[:2000]}")
    return answer


def run(target: Target, clients: int, seconds: float) -> Load:
    """Ask for so long. Ends the benchmark where a single request failed."""
    headers = {"Content-Type": "application/json", **target.headers}
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "load.lua")
        body.write_bytes(target.body)
        named = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
        script.write_text(_SCRIPT.format(body=body, headers=named))
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", f"{ANSWER_SECONDS}s"]
        ran = subprocess.run([*command, "-s", str(script), target.url], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"wrk: {ran.stdout}{ran.stderr}")
    found = json.loads(ran.stdout.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        print(ran.stdout)
        post(target)  # says why, if it is still so
        raise SystemExit(f"{target.name}: {found['failed']} of {found['requests']} requests failed")
    median, p99, mean = (found[name] / 1e3 for name in ("p50", "p99", "mean"))  # wrk counts microseconds
    return Load(found["requests"] / found["seconds"], median, p99, mean, found["requests"])
