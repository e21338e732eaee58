"""The Compose files: docker-compose 1.29 and Compose 2 accept them, and every service meets our rules."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from service.shared.settings import PREFIX, SECRETS_DIR, Settings
from tests.conftest import need

ROOT = Path(__file__).parent.parent.parent
MAIN = "docker-compose.yml"
OVERRIDES = ("docker-compose.gpu.yml", "docker-compose.s3.yml", "docker-compose.tls.yml")
# The variables that the overrides require.
REQUIRED = {"SENSORIUM_STORAGE": "s3://bucket/prefix", "TLS_CERTIFICATE": "/certificate", "TLS_KEY": "/key"}
OURS = ("secrets", "migrate", "api", "training-worker", "data-worker", "inference-worker")
SETTINGS = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {SECRETS_DIR, "CUDA_VISIBLE_DEVICES"}


def _read(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return read


def _resolved(*names: str, **environment: str) -> dict[str, Any]:
    """The merged configuration, as docker-compose 1.29 prints it."""
    program = shutil.which("docker-compose")
    need(program, "docker-compose")
    assert program is not None
    command = [program, *chain.from_iterable(("--file", name) for name in names), "config"]
    found = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"} | environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    read: dict[str, Any] = yaml.safe_load(found.stdout)
    return read


@pytest.mark.parametrize("name", [MAIN, *OVERRIDES, "tests/containers/hosts.yml"])
def test_files_fit_the_compose_specification(name: str) -> None:
    """The specification of Compose 2 and later."""
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(_read(name))


@pytest.mark.parametrize("override", [None, *OVERRIDES])
def test_docker_compose_1_29_accepts_the_files(override: str | None) -> None:
    services = _resolved(MAIN, *([override] if override else ()), **REQUIRED)["services"]
    assert {*OURS, "proxy", "postgres", "redis"} <= services.keys()


def test_only_the_proxy_publishes_a_port_and_only_on_loopback() -> None:
    services = _read(MAIN)["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert services["proxy"]["ports"] == ["${SENSORIUM_LISTEN:-127.0.0.1:8000}:8080"]


def test_every_service_has_a_memory_limit_and_restarts() -> None:
    for name, service in _resolved(MAIN)["services"].items():
        once = name in ("secrets", "migrate")
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        assert once or "mem_limit" in service, name
        if name in OURS:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_services_start_after_their_dependencies() -> None:
    services = _read(MAIN)["services"]
    done, healthy = "service_completed_successfully", "service_healthy"
    assert services["migrate"]["depends_on"] == {"secrets": {"condition": done}, "postgres": {"condition": healthy}}
    for name in ("api", "training-worker", "data-worker", "inference-worker"):
        needed = {each: condition["condition"] for each, condition in services[name]["depends_on"].items()}
        assert needed == {"migrate": done, "postgres": healthy, "redis": healthy}, name
    assert services["proxy"]["depends_on"] == {"api": {"condition": healthy}}


def test_every_variable_is_a_known_setting_and_no_file_holds_a_secret() -> None:
    for name in (MAIN, *OVERRIDES):
        text = (ROOT / name).read_text()
        for service, described in _read(name)["services"].items():
            given = described.get("environment", {})
            if service in OURS:
                assert given.keys() <= SETTINGS, f"{name} {service}: {given.keys() - SETTINGS}"
            for variable, value in given.items():
                if re.search("PASSWORD|SECRET_KEY|SECRET_ACCESS", variable):
                    assert re.fullmatch(r"\$\{[A-Z0-9_]+:-\}|/run/.*", str(value)), f"{name} {service} {variable}"
        assert not re.search(r"://[^/\s$]*:[^/\s$]*@", text), name


def test_all_processes_use_the_same_storage_with_all_overrides() -> None:
    files = (MAIN, "docker-compose.gpu.yml", "docker-compose.s3.yml")
    services = _resolved(*files, **REQUIRED, COMPOSE_PROFILES="gpu-1,gpu-2,gpu-3")["services"]
    ours = [name for name in services if name == "api" or name.endswith("worker") or "worker-" in name]
    assert len(ours) == 7
    for name in ours:
        assert services[name]["environment"]["SENSORIUM_STORAGE"] == REQUIRED["SENSORIUM_STORAGE"], name
    first, second = (services[name]["environment"] for name in ("training-worker", "training-worker-1"))
    assert first | {"CUDA_VISIBLE_DEVICES": "0"} == second | {"CUDA_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize("secret", ["SENSORIUM_DATABASE_PASSWORD", "SENSORIUM_BROKER_PASSWORD", "SENSORIUM_SECRET_KEY"])
def test_the_secrets_command_keeps_a_chosen_secret_and_generates_the_others(secret: str, tmp_path: Path) -> None:
    """Runs the command of the Compose file with the environment of the Compose file."""
    service = _resolved(MAIN, **{secret: "c" * 32})["services"]["secrets"]
    environment = {"PATH": os.environ["PATH"], "SENSORIUM_HOME": str(tmp_path)} | service["environment"]
    _, *arguments, _ = service["command"]
    command = [sys.executable, "-m", "service.cli", *arguments, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 2
    assert (tmp_path / "sensorium" / secret.lower()).read_text() == "c" * 32


def test_the_trainer_stop_time_is_shorter_than_lease_and_grace_period() -> None:
    service = _resolved(MAIN)["services"]["training-worker"]
    assert float(service["environment"]["SENSORIUM_TRAINER_STOP_SECONDS"]) < Settings().lease_seconds
    assert service["stop_grace_period"] == "2m"
