"""Runs commands of the container engine and of Compose."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import wait_until

ROOT = Path(__file__).parent.parent.parent


def check() -> None:
    """Exit with a message if no container engine runs."""
    try:
        docker("info")
    except (OSError, RuntimeError):
        raise SystemExit("`docker info` failed, expected a running container engine: start one first") from None


def base_image() -> str:
    """The base image of our image."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))


def compose_command() -> list[str]:
    """`docker compose`, or docker-compose if the engine has no Compose plugin."""
    try:
        docker("compose", "version")
    except RuntimeError:
        return ["docker-compose"]
    return ["docker", "compose"]


def docker(*arguments: str, given: bytes | None = None) -> str:
    """The output of an engine command. Raises RuntimeError with its output if it fails."""
    return _run(["docker", *arguments], os.environ, given)


def _run(command: list[str], environment: Mapping[str, str], given: bytes | None = None) -> str:
    ended = subprocess.run(command, env=environment, input=given, capture_output=True, check=False, cwd=ROOT)
    if ended.returncode:
        output = (ended.stdout + ended.stderr).decode(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(command)} exited with status {ended.returncode}:\n{output}")
    return ended.stdout.decode().strip()


class Project:
    """One Compose project: its files, its environment, its containers."""

    def __init__(self, name: str, files: list[Path], **environment: str) -> None:
        self.name = name
        self._environment = {**os.environ, **environment}
        self._command = [*compose_command(), f"--project-name={name}"]
        for file in files:
            self._command.append(f"--file={file}")

    def compose(self, *arguments: str, given: bytes | None = None, **environment: str) -> str:
        """The output of a Compose command."""
        return _run([*self._command, *arguments], self._environment | environment, given)

    def start(self, **environment: str) -> float:
        """Start all services, and wait until those with a health check are healthy. Returns the seconds."""
        began_at = time.monotonic()
        self.compose("up", "--detach", "--no-build", **environment)
        self.wait_until_healthy()
        return time.monotonic() - began_at

    def containers(self, service: str | None = None, everything: bool = False) -> list["Container"]:
        """The running containers, of one service or of all; `everything` includes stopped ones."""
        labels = [f"com.docker.compose.project={self.name}"]
        if service is not None:
            labels.append(f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        found = docker("ps", "--quiet", *(["--all"] if everything else []), *filters)
        return [Container(each) for each in found.split()]

    def wait_until_healthy(self) -> None:
        """Wait until every container with a health check is healthy."""
        for container in self.containers():
            wait_until(lambda c=container: c.health in ("healthy", None), 120, f"{container.name} healthy")  # type: ignore[misc]

    def log(self) -> str:
        """The last log lines of all containers."""
        return self.compose("logs", "--no-color", "--tail=40")

    def remove(self) -> list[str]:
        """Remove all containers, volumes and networks. Returns those that remain; expected: none."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout=30")
        label = ("--filter", f"label=com.docker.compose.project={self.name}")
        kinds = {"container": ("ps", "--all"), "volume": ("volume", "ls"), "network": ("network", "ls")}
        return [f"{kind} {one}" for kind, listed in kinds.items() for one in docker(*listed, "--quiet", *label).split()]


class Container:
    """One container."""

    def __init__(self, id: str) -> None:
        self.id = id

    @property
    def facts(self) -> dict[str, Any]:
        """The output of `docker inspect`."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.id))
        return found[0]

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.facts["Name"]).lstrip("/")

    @property
    def health(self) -> str | None:
        """The status of the health check; None if the container has no health check."""
        health = self.facts["State"].get("Health")
        return health["Status"] if health else None

    @property
    def exit_code(self) -> int:
        """The exit status of the container."""
        return int(self.facts["State"]["ExitCode"])

    def crash(self) -> None:
        """Kill its first process from outside, so that the restart policy restarts the container."""
        os.kill(self.facts["State"]["Pid"], signal.SIGKILL)

    def kill(self) -> None:
        """Run `docker kill`; the engine does not restart the container."""
        docker("kill", self.id)

    def stop(self, seconds: int) -> int:
        """Send SIGTERM, then SIGKILL after `seconds`. Returns the exit status."""
        docker("stop", f"--time={seconds}", self.id)
        return self.exit_code

    def remove(self) -> None:
        """Remove the stopped container."""
        docker("rm", self.id)

    def start(self) -> None:
        """Start the stopped container."""
        docker("start", self.id)

    def wait_until_back(self, before: str) -> None:
        """Wait until the container has a start time other than `before`, and is healthy."""
        wait_until(lambda: self.started_at != before and self.health in ("healthy", None), 120, f"{self.name} back")

    @property
    def started_at(self) -> str:
        """The time of the last start; empty if the container does not run."""
        state = self.facts["State"]
        return str(state["StartedAt"]) if state["Running"] else ""

    def run(self, *command: str) -> str:
        """The output of a command that runs in the container."""
        return docker("exec", self.id, *command)
