"""Every server that is measured, in processes of its own on loopback, from its start to its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from benchmarks import auth_cost
from benchmarks.load import Target
from benchmarks.peers import subjects, venvs
from service.access import operations as access
from service.shared import migrate
from service.shared.database import Database
from service.shared.settings import Settings
from tests.servers import free_port, redis_process
from tests.service.inference.workers import infer_worker

ROOT = Path.cwd()
START_SECONDS = 90
STOP_SECONDS = 15
ENCODER, SEQUENCES = "encoder", "sequences"
_REQUESTS_PER_MINUTE = "100000000"
_SECRET = "measured " * 4  # processes that share no home share a key
_JSON = {"Content-Type": "application/json"}
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


class NotStarted(Exception):
    """A server that did not come up; says what it has logged last."""


@dataclass(frozen=True)
class Ours:
    """Our API process: where it is, and with which key it is asked."""

    name: str
    url: str
    key: str
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        """Who asks."""
        return {"Authorization": f"Bearer {self.key}"}

    def encode(self, arrays: subjects.Arrays) -> Target:
        """The encoder's own operation, JSON in and out."""
        url = f"{self.url}/v1/models/{ENCODER}/versions/1/encode"
        return Target(self.name, url, subjects.as_json(arrays), self.headers)

    def infer(self, model: str, arrays: subjects.Arrays) -> Target:
        """Binary tensors in and out."""
        body, headers = subjects.as_tensors(arrays)
        url = f"{self.url}/v2/models/{model}/versions/1/infer"
        return Target(f"{self.name}, tensors", url, body, {**self.headers, **headers})


@contextmanager
def local(home: Path, checkpoints: Path) -> Iterator[Ours]:
    """Our API with default settings, as `sensorium api` starts it: the engine is in its process."""
    with _api("local", home, {}) as ours:
        _import(ours, checkpoints)
        yield ours


@contextmanager
def celery(home: Path, checkpoints: Path) -> Iterator[Ours]:
    """Our API with one `infer` worker, over a Redis of its own. Raises NotStarted."""
    home.mkdir(exist_ok=True)
    with redis_process(home / "redis") as (broker, _):
        chosen = {"inference_backend": "celery", "broker": broker, "secret_key": _SECRET}
        named = {f"SENSORIUM_{name.upper()}": value for name, value in chosen.items()}
        settings = Settings.model_validate({"home": home, **chosen})
        migrate.upgrade(settings.database_url)
        try:
            with infer_worker(settings), _api("celery", home, named) as ours:
                _import(ours, checkpoints)
                yield ours
        except AssertionError as error:  # it has waited long enough
            raise NotStarted(f"{error}\n{_tail(home / 'infer.log')}") from error


@contextmanager
def echo(home: Path) -> Iterator[Target]:
    """FastAPI alone with a route that decodes the body and encodes it again."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.auth_cost", "bare", str(port)]
    target = Target("echo", f"http://127.0.0.1:{port}{auth_cost.PATH}", subjects.as_json(subjects.values(1)))
    with _process(target, command, home, {}):
        yield target


@contextmanager
def litserve(home: Path, checkpoints: Path, wait_seconds: float) -> Iterator[Target]:
    """LitServe, whose batches wait so long for others; it is asked at /predict."""
    port = free_port()
    weights = str(checkpoints / ENCODER)
    command = [str(venvs.python("litserve")), "-m", "benchmarks.peers.litserve_server", str(port)]
    command += [weights, str(wait_seconds)]
    target = Target("litserve", f"http://127.0.0.1:{port}/predict", subjects.as_json(subjects.values(1)))
    with _process(target, command, home, _QUIET):
        yield target


@contextmanager
def bentoml(home: Path, checkpoints: Path) -> Iterator[Target]:
    """BentoML, which is asked at /predict."""
    port = free_port()
    served = "benchmarks.peers.bentoml_server:Served"
    command = [str(venvs.python("bentoml")), "-m", "bentoml", "serve", served]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    named = {**_QUIET, "BENTOML_HOME": str(home / "bentoml"), "WEIGHTS": str(checkpoints / ENCODER)}
    target = Target("bentoml", f"http://127.0.0.1:{port}/predict", subjects.as_rows(subjects.values(1)))
    with _process(target, command, home, named):
        yield target


@contextmanager
def mlflow(home: Path, checkpoints: Path) -> Iterator[Target]:
    """MLflow, which is asked at /invocations."""
    port, python = free_port(), str(venvs.python("mlflow"))
    named = {**_QUIET, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    folder = home / "mlflow"
    if not folder.exists():
        program = "benchmarks.peers.mlflow_model"
        _once([python, "-m", program, str(folder), str(checkpoints / ENCODER)], home, named)
    command = [python, "-m", "mlflow", "models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    target = Target("mlflow", f"http://127.0.0.1:{port}/invocations", subjects.as_json(subjects.values(1)))
    with _process(target, command, home, named):
        yield target


@contextmanager
def _api(name: str, home: Path, chosen: Mapping[str, str]) -> Iterator[Ours]:
    port = free_port()
    settings = Settings(home=home)
    home.mkdir(exist_ok=True)
    migrate.upgrade(settings.database_url)
    database = Database(settings.database_url)
    with database.writer.begin() as session:
        _, key = access.create_key(session, access.create_project(session, "measured").id, "measured")
    database.close()
    named = {"SENSORIUM_HOME": str(home), "SENSORIUM_PORT": str(port), **chosen}
    named["SENSORIUM_PROJECT_REQUESTS_PER_MINUTE"] = _REQUESTS_PER_MINUTE
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service.cli", "api"]
    with _process(Target(name, f"{url}/v1/models", b"{}"), command, home, named) as pid:
        yield Ours(name, url, key, pid)


def _import(ours: Ours, checkpoints: Path) -> None:
    subjects.register(ours.url, ours.key, ENCODER, checkpoints / ENCODER, subjects.encoder_config())
    subjects.register(ours.url, ours.key, SEQUENCES, checkpoints / SEQUENCES, subjects.sequence_config())


@contextmanager
def _process(target: Target, command: Sequence[str], home: Path, named: Mapping[str, str]) -> Iterator[int]:
    """A process that answers; it and its children end with the block. Raises NotStarted."""
    log = home / f"{target.name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=home, env=_environment(named), stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(target):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{target.name} does not answer:\n{_tail(log)}")
            time.sleep(0.1)
        yield process.pid
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all of its children, which are a group."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _once(command: Sequence[str], home: Path, named: Mapping[str, str]) -> None:
    ran = subprocess.run(command, cwd=home, env=_environment(named), capture_output=True, text=True)
    if ran.returncode:
        raise NotStarted(f"{' '.join(command)}:\n{ran.stderr[-2000:]}")


def _environment(named: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **named}


def _answers(target: Target) -> bool:
    """Whether there is an answer, be it that a key is missing; a server that is not ready yet answers 503."""
    try:
        answer = httpx.post(target.url, content=target.body, headers=_JSON, timeout=10)
        return answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""
