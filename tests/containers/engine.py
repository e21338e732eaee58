"""The container engine, through its own commands."""

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
    """End with a sentence where no engine runs."""
    try:
        docker("info")
    except (OSError, RuntimeError):
        raise SystemExit("no container engine runs here: start one first") from None


def base_image() -> str:
    """What our image stands on."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))


def compose_command() -> list[str]:
    """`docker compose`, or docker-compose where the engine has no such plugin."""
    try:
        docker("compose", "version")
    except RuntimeError:
        return ["docker-compose"]
    return ["docker", "compose"]


def docker(*arguments: str, given: bytes | None = None) -> str:
    """What a command of the engine prints. Raises CalledProcessError with what it said."""
    return _run(["docker", *arguments], os.environ, given)


def _run(command: list[str], environment: Mapping[str, str], given: bytes | None = None) -> str:
    ended = subprocess.run(command, env=environment, input=given, capture_output=True, check=False, cwd=ROOT)
    if ended.returncode:
        said = (ended.stdout + ended.stderr).decode(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{said}")
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
        """What a Compose command prints."""
        return _run([*self._command, *arguments], self._environment | environment, given)

    def start(self, **environment: str) -> float:
        """Bring everything up and wait until all that has a health is healthy. Returns the seconds."""
        began_at = time.monotonic()
        self.compose("up", "--detach", "--no-build", **environment)
        self.wait_until_healthy()
        return time.monotonic() - began_at

    def containers(self, service: str | None = None, everything: bool = False) -> list["Container"]:
        """The containers, or a service's, that run; or all of them."""
        labels = [f"com.docker.compose.project={self.name}"]
        if service is not None:
            labels.append(f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        found = docker("ps", "--quiet", *(["--all"] if everything else []), *filters)
        return [Container(each) for each in found.split()]

    def wait_until_healthy(self) -> None:
        """Wait for every container that says how it is."""
        for container in self.containers():
            wait_until(lambda c=container: c.health in ("healthy", None), 120, f"{container.name} healthy")  # type: ignore[misc]

    def log(self) -> str:
        """What all containers said last."""
        return self.compose("logs", "--no-color", "--tail=40")

    def remove(self) -> list[str]:
        """Take everything down. Returns what is left of it, which should be nothing."""
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
        """All that the engine knows."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.id))
        return found[0]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.facts["Name"]).lstrip("/")

    @property
    def health(self) -> str | None:
        """What its health check says; None where it has none."""
        health = self.facts["State"].get("Health")
        return health["Status"] if health else None

    @property
    def exit_code(self) -> int:
        """How it ended."""
        return int(self.facts["State"]["ExitCode"])

    def crash(self) -> None:
        """End its first process as a fault would, so that the restart policy starts it anew."""
        os.kill(self.facts["State"]["Pid"], signal.SIGKILL)

    def kill(self) -> None:
        """`docker kill`: it stays dead until it is started."""
        docker("kill", self.id)

    def stop(self, seconds: int) -> int:
        """SIGTERM, and as long as this to end. Returns its status."""
        docker("stop", f"--time={seconds}", self.id)
        return self.exit_code

    def remove(self) -> None:
        """Take what has stopped away."""
        docker("rm", self.id)

    def start(self) -> None:
        """Start it again."""
        docker("start", self.id)

    def wait_until_back(self, before: str) -> None:
        """Wait until it has started after `before` and is healthy."""
        wait_until(lambda: self.started_at != before and self.health in ("healthy", None), 120, f"{self.name} back")

    @property
    def started_at(self) -> str:
        """When it was started last."""
        state = self.facts["State"]
        return str(state["StartedAt"]) if state["Running"] else ""

    def run(self, *command: str) -> str:
        """What a command prints inside."""
        return docker("exec", self.id, *command)
