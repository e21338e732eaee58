"""The Kubernetes manifests: the built objects match the published schemas, and every pod meets our rules."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.shared.settings import PREFIX, SECRETS_DIR, Settings

ROOT = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"
LAYERS = ("base", "overlays/gpu", "overlays/ingress")
VERSION = "1.35"
DRAIN_SECONDS = Settings().drain_seconds
SETTINGS = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {SECRETS_DIR, "CUDA_VISIBLE_DEVICES"}

Object = dict[str, Any]


@cache
def objects(layer: str) -> tuple[Object, ...]:
    """The objects that `kubectl kustomize` builds for a layer."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        if os.environ.get("SENSORIUM_REQUIRE_KUBECTL") == "1":
            pytest.fail("kubectl is required by SENSORIUM_REQUIRE_KUBECTL=1 and not installed")
        pytest.skip("kubectl is not installed")
    made = subprocess.run([kubectl, "kustomize", ROOT / layer], capture_output=True, text=True, check=True)
    return tuple(yaml.safe_load_all(made.stdout))


def pods(layer: str) -> Iterator[tuple[str, Object]]:
    for each in objects(layer):
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(layer: str) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(layer):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield f"{name} {container['name']}", container


@pytest.mark.parametrize("layer", LAYERS)
def test_all_objects_match_the_published_schemas(layer: str) -> None:
    for each in objects(layer):
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_the_schemas_reject_a_misspelt_field() -> None:
    deployment = next(each for each in objects("base") if each["kind"] == "Deployment")
    bad = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, VERSION, strict=True)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_pod_runs_without_privileges(layer: str) -> None:
    for name, pod in pods(layer):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod["automountServiceAccountToken"], name
        assert not pod["enableServiceLinks"], name  # their variables would look like our settings
    for name, container in containers(layer):
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"], name
        assert not locked["allowPrivilegeEscalation"], name
        assert locked["capabilities"] == {"drop": ["ALL"]}, name
        assert ":" in container["image"], name
        assert "memory" in container["resources"]["limits"], name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


@pytest.mark.parametrize("layer", LAYERS)
def test_every_process_has_probes_and_a_grace_period(layer: str) -> None:
    for each in objects(layer):
        if each["kind"] != "Deployment":
            continue
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {"startupProbe", "livenessProbe"} <= container.keys()
        assert [init["name"] for init in pod["initContainers"]] == ["schema"]
        if container["name"] == "api":
            left = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
            assert pod["terminationGracePeriodSeconds"] > left + DRAIN_SECONDS
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("layer", LAYERS)
def test_every_variable_is_a_known_setting_and_not_a_secret(layer: str) -> None:
    given = {variable["name"] for _, container in containers(layer) for variable in container.get("env", ())}
    for each in objects(layer):
        assert each["kind"] != "Secret"
        if each["kind"] == "ConfigMap":
            given |= each["data"].keys()
            assert not any(re.search(r"://[^/]*:[^/]*@", value) for value in each["data"].values())
    assert given <= SETTINGS, given - SETTINGS
    assert not [name for name in given if re.search("PASSWORD|SECRET_KEY|ACCESS_KEY", name)]


def test_training_workers_of_the_gpu_overlay_see_their_gpu() -> None:
    workers = [pod for name, pod in pods("overlays/gpu") if name == "sensorium-training-worker"]
    (container,) = workers[0]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0"} in container["env"]
