"""The life of a Compose installation: upgrade, use, scaling, faults, restarts, backup, restore and removal."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import wait_until
from tests.containers.engine import ROOT, Container, Project, base_image, docker
from tests.containers.load import Load
from tests.containers.report import Report
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port
from worker.versions import git_revision

IMAGE = "sensorium:test"
# Half a minute on one core, long enough for a fault during the training.
LONG = {"epochs": 1200, "select": "last"}
# The engine restarts a crashed container. It does not restart one that was ended by `docker kill`.
CRASHED = ("training-worker", "data-worker", "inference-worker", "api", "proxy")
KILLED = ("redis", "postgres", "training-worker", "data-worker", "inference-worker", "api")
FIRST_SCHEMA = "0001"


def build(report: Report) -> None:
    """Build the image, and check its size and its user."""
    with report.step("the image builds"):
        began_at = time.monotonic()
        build_arguments = {"GIT_REVISION": git_revision() or "", "TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
        arguments = [f"--build-arg={name}={value}" for name, value in build_arguments.items()]
        docker("build", "--quiet", f"--tag={IMAGE}", *arguments, str(ROOT))
        report.figure("image built", f"{time.monotonic() - began_at:.0f} s")
    size, base = (int(docker("image", "inspect", "--format={{.Size}}", each)) for each in (IMAGE, base_image()))
    report.figure("image", f"{size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB of it on top of {base_image()}")
    with report.step("the image runs as an unprivileged user, read-only, without a compiler, with an init process"):
        kernels = "python -c 'import models; print(models.explain_examples(\"cpu\"))'"
        inside = f"id -u; for c in cc gcc g++; do command -v $c; done; cat /proc/1/comm; {kernels}"
        shown = docker("run", "--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", IMAGE, "sh", "-c", inside)
        assert shown.split()[:2] == ["10001", "tini"], shown
        assert "kernel" in shown, shown
        assert "reference" not in shown, shown


class Installation:
    """An installation of docker-compose.yml with a unique project name and port."""

    def __init__(self, report: Report) -> None:
        self.report = report
        port = free_port()
        self.environment = {"SENSORIUM_IMAGE": IMAGE, "SENSORIUM_LISTEN": f"127.0.0.1:{port}"}
        self.project = Project(f"sensorium-test-{os.getpid()}", [ROOT / "docker-compose.yml"], **self.environment)
        self.url = f"http://127.0.0.1:{port}"
        self.key = ""
        self.caller = Caller(self.url, "none")

    def sensorium(self, *command: str) -> str:
        """The output of a `sensorium` command in the API's container."""
        return self.project.compose("exec", "-T", "api", "sensorium", *command)

    def answers(self) -> bool:
        """Whether the service responds and is ready."""
        try:
            return self.caller.http.get("/readyz").is_success
        except Exception:
            return False

    def upgrade(self) -> None:
        """Start the service on a database of the first schema, and find the old data in it."""
        with self.report.step("a database of the first schema with data exists"):
            self.project.compose(
                "run", "--rm", "-T", "migrate", "sensorium", "db", "migrate", "--revision", FIRST_SCHEMA
            )
            before = (Path(__file__).parent / "before.sql").read_bytes()
            sql = ("exec", "-T", "postgres", "psql", "--username=sensorium", "--quiet", "--set=ON_ERROR_STOP=1")
            self.project.compose(*sql, given=before)
        with self.report.step("all services start on it"):
            seconds = self.project.start()
            wait_until(self.answers, 60, "the service")
            self.report.figure("from `up` to healthy, with the image built", f"{seconds:.0f} s")
            ended = {one.facts["Config"]["Labels"]["com.docker.compose.service"]: one.exit_code
                     for one in self.project.containers(everything=True) if not one.started_at}  # fmt: skip
            assert ended == {"secrets": 0, "migrate": 0}, ended
            assert self.sensorium("db", "check").startswith("at revision ")
        with self.report.step("the old data exists after the upgrade"):
            self.key = self.sensorium("key", "create", "before", "test")
            self.caller = Caller(self.url, self.key)
            names = [one["name"] for one in self.caller.call("GET", "/v1/datasets")["datasets"]]
            assert names == ["heartbeats"], names
        with self.report.step("the doctor finds no problem"):
            self.report.figure("doctor", f"{self.sensorium('doctor').count('ok ')} findings are ok")

    def demo(self) -> None:
        """Run the demo's client on this host."""
        key = self.sensorium("project", "create", "demo")
        with self.report.step("the demo runs from outside"), tempfile.TemporaryDirectory() as out:
            began_at = time.monotonic()
            environment = {**os.environ, "SENSORIUM_URL": self.url, "SENSORIUM_API_KEY": key}
            command = [sys.executable, "-m", "examples.demo", "--out", out]
            subprocess.run(command, env=environment, cwd=ROOT, check=True)
            self.report.figure("the demo", f"{time.monotonic() - began_at:.0f} s")

    def scale(self) -> None:
        """Run two APIs and two training workers."""
        with self.report.step("two training workers run two trainings at once"):
            self.project.start(API_REPLICAS="2", TRAINING_WORKERS="2")
            wait_until(lambda: [len(self.project.containers(one)) for one in ("api", "training-worker")] == [2, 2], 60)
            self.caller.dataset("small")
            runs = [self.caller.submit("small", **LONG) for _ in range(2)]
            wait_until(lambda: [self.caller.run(one)["state"] for one in runs] == ["running"] * 2, 60, "both at once")
            for run in runs:
                self.succeeded(run)

    def succeeded(self, run_id: str) -> dict[str, Any]:
        """The ended run; it must have succeeded, and inference with its model must succeed."""
        wait_until(lambda: self.state(run_id) in FINAL, 300, f"{run_id} ended")
        run = self.caller.run(run_id)
        assert run["state"] == "succeeded", run
        self.caller.ask(run)
        return run

    def state(self, run_id: str) -> str | None:
        """A run's state; None while the service does not respond."""
        try:
            return str(self.caller.run(run_id)["state"])
        except Exception:
            return None

    def inject_faults(self) -> None:
        """Crash or kill each service during a training and inference requests."""
        model = self.succeeded(self.caller.submit("small"))
        for service in CRASHED:
            self._inject(f"{service} crashes", service, model, lambda container: container.crash())
        for service in KILLED:
            self._inject(f"{service} killed", service, model, lambda container: (container.kill(), container.start()))
        with self.report.step("jobs are accepted while Redis is down"):
            redis = self.project.containers("redis")[0]
            redis.kill()
            wait_until(lambda: self.caller.http.get("/readyz").json()["status"] == "degraded", 30, "degraded")
            run = self.caller.submit("small")
            redis.start()
            self.succeeded(run)
        with self.report.step("without PostgreSQL the service is not ready"):
            postgres = self.project.containers("postgres")[0]
            postgres.kill()
            wait_until(lambda: self.caller.http.get("/readyz").status_code == 503, 30, "not ready")
            postgres.start()
            wait_until(self.answers, 60, "the service")

    def _inject(self, name: str, service: str, model: dict[str, Any], fault: Callable[[Container], object]) -> None:
        with self.report.step(f"{name} during training and inference"):
            run = self.caller.submit("small", **LONG)
            wait_until(lambda: self.state(run) == "running", 60, "training")
            with Load(self.url, self.key, model) as load:
                time.sleep(2)
                container = self._at_work(service, run)
                before, began_at = container.started_at, time.monotonic()
                fault(container)
                container.wait_until_back(before)
                back = time.monotonic() - began_at
                wait_until(self.answers, 60, "the service")
                succeeded = load.outcomes["200"]
                wait_until(lambda: load.outcomes["200"] > succeeded + 20, 60, "answers")
            attempts = self.succeeded(run)["attempt"]
            counts = f"{load.failed} of {load.outcomes.total()} requests failed, {attempts} attempts"
            self.report.figure(name, f"healthy after {back:.1f} s, {counts}")

    def _at_work(self, service: str, run_id: str) -> Container:
        """A service's container; of the training workers, the one that trains the run."""
        containers = self.project.containers(service)
        if service == "training-worker":
            host = self._host(run_id)
            containers = [container for container in containers if container.id.startswith(host)]
        return containers[0]

    def _host(self, run_id: str) -> str:
        """The host name of the worker that trains a run."""
        query = "SELECT r.id, w.host FROM runs r JOIN jobs j ON j.id = r.job_id JOIN workers w ON w.id = j.owner"
        psql = (
            "psql",
            "--username=sensorium",
            "--no-align",
            "--tuples-only",
            "--field-separator= ",
            "--command",
            query,
        )
        rows = self.project.compose("exec", "-T", "postgres", *psql).splitlines()
        return dict(row.split() for row in rows)[run_id]

    def restart_all(self) -> None:
        """Restart every process of the service, one by one; no request may fail."""
        model = self.succeeded(self.caller.submit("small"))
        run = self.caller.submit("small", **LONG)
        wait_until(lambda: self.state(run) == "running", 60, "training")
        with (
            self.report.step("a rolling restart of all processes of the service fails no request"),
            Load(self.url, self.key, model) as load,
        ):
            self.project.start(API_REPLICAS="2", TRAINING_WORKERS="2", INFERENCE_WORKERS="2")
            for service in ("api", "inference-worker", "training-worker", "data-worker"):
                for container in self.project.containers(service):
                    began_at = time.monotonic()
                    assert container.stop(60) in (0, 143), f"{service} ended with {container.exit_code}"
                    stopped = time.monotonic() - began_at
                    container.start()
                    wait_until(lambda c=container: c.health == "healthy", 60, service)  # type: ignore[misc]
                self.report.figure(
                    f"{service} restarted",
                    f"stopped in {stopped:.1f} s, healthy after {time.monotonic() - began_at:.1f} s",
                )
            self._replace_apis()
            assert not load.failed, load.outcomes
        self.report.figure("rolling restart", f"{load.outcomes['200']} requests, {load.failed} failed")
        self.succeeded(run)

    def _replace_apis(self) -> None:
        """Start new API containers, then remove the old ones, as an upgrade does."""
        old = self.project.containers("api")
        self.project.compose("up", "--detach", "--no-deps", "--no-recreate", "api", API_REPLICAS="4")
        self.project.wait_until_healthy()
        for container in old:
            container.stop(60)
            container.remove()
        self.project.start(API_REPLICAS="2", TRAINING_WORKERS="2", INFERENCE_WORKERS="2")
        assert not {one.id for one in old} & {one.id for one in self.project.containers("api")}

    def save_and_restore(self) -> None:
        """Back up, remove everything, restore: the same model gives the same result."""
        model = self.succeeded(self.caller.submit("small"))
        body = {"inputs": {"audio": [[1, 2, 3]]}}
        path = f"/v1/models/{model['model']}/versions/{model['version']}/encode"
        mean = self.caller.call("POST", path, json=body)["mean"]
        compose = {"COMPOSE_PROJECT_NAME": self.project.name, "COMPOSE_FILE": str(ROOT / "docker-compose.yml")}
        environment = {**os.environ, **self.environment, **compose}
        with tempfile.TemporaryDirectory() as folder:
            saved = f"{folder}/saved"
            with self.report.step("a running installation is backed up"):
                began_at = time.monotonic()
                subprocess.run([ROOT / "deploy" / "backup.sh", saved], env=environment, check=True, cwd=ROOT)
                self.report.figure("backup", f"{time.monotonic() - began_at:.1f} s")
            with self.report.step("the installation is removed and restored"):
                assert self.project.remove() == []
                began_at = time.monotonic()
                subprocess.run([ROOT / "deploy" / "restore.sh", saved], env=environment, check=True, cwd=ROOT)
                self.project.wait_until_healthy()
                wait_until(self.answers, 60, "the service")
                self.report.figure("restore", f"{time.monotonic() - began_at:.1f} s")
            assert self.caller.call("POST", path, json=body)["mean"] == mean

    def remove(self) -> None:
        """Remove the installation, and check that nothing remains."""
        with self.report.step("the installation is removed completely"):
            remaining = self.project.remove()
            assert not remaining, remaining
