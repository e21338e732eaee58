"""Responses to generated requests conform to the OpenAPI document.

`make test` sends a fixed, small selection. `make fuzz` sends much more, from a seed that it prints; what it found is
sent again with `make fuzz FUZZ_SEED=…`.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Service
from tests.contract.conftest import Document, Served
from tests.service import steps
from tests.service.files import packed

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "3")
SEED = os.environ.get("FUZZ_SEED")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
    "ignored_auth",
)
CONFIGURATION = "\n".join(
    [
        "[checks]",
        "enabled = false",
        *(f"{check}.enabled = true" for check in CHECKS),
        "[[operations]]",
        # A model may have this name, and then the path accepts the methods of a model.
        'include-path = "/v1/models/import"',
        "checks.unsupported_method.enabled = false",
        "checks.allow_header_conformance.enabled = false",
    ]
)

Values = dict[str, list[Any]]


def _existing(service: Service, key: str) -> Values:
    """Values of path parameters by name: an upload, a dataset, a trained run, a queued run, and a model."""
    steps.dataset(service, "pictures", **steps.pictures())
    training = {"epochs": 2, "checkpoint_epochs": 1}
    run = steps.train(service, "pictures", "pictures", training=training)
    assert service.http.put("/v1/models/pictures/aliases/live", json={"version": run["version"]}).status_code == 201
    checkpoints = service.http.get(f"/v1/runs/{run['id']}/checkpoints").json()["checkpoints"]
    return {
        "upload_id": [steps.upload(service, packed(x=np.zeros((2, 1), np.float32)))],
        "name": ["pictures"],
        "version": [run["version"]],
        "run_id": [run["id"], steps.queue_run(service, "pictures", "pictures")["id"]],
        "step": [checkpoint["step"] for checkpoint in checkpoints],
        "key_id": [key],
        "alias": ["live"],
    }


def _spare(service: Service, key: str) -> Values:
    """What may be deleted."""
    steps.dataset(service, "spare", **steps.pictures())
    run = steps.queue_run(service, "spare", "spare")["id"]
    service.http.post(f"/v1/runs/{run}/cancel")
    uploads = [steps.upload(service, packed(x=np.zeros((2, 1), np.float32))) for _ in range(2)]
    ids = {"upload_id": uploads, "run_id": [run], "key_id": [key]}
    return {**ids, "name": ["spare"], "version": [1], "alias": ["live"]}


def _about(existing: Values, spare: Values, document: Document) -> Document:
    """The document with path parameters of existing resources; generated names would only get 404."""
    narrowed = copy.deepcopy(document)
    for operations in narrowed["paths"].values():
        for method, operation in operations.items():
            values = spare if method == "delete" else existing
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    known = values[parameter["name"]]
                    as_text = parameter["schema"]["type"] == "string"
                    parameter["schema"]["enum"] = [str(value) for value in known] if as_text else known
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if patience := content["schema"].get("properties", {}).get("timeout_seconds"):
                    patience["anyOf"][0] = {"type": "number", "minimum": 20, "maximum": 600}
    return narrowed


@pytest.mark.timeout(3600)
def test_every_response_conforms_to_the_document(
    service: Service, served: Served, document: Document, tmp_path: Path
) -> None:
    path = tmp_path / "openapi.json"
    existing, spare = _existing(service, served.key_id), _spare(service, served.spare_key_id)
    path.write_text(json.dumps(_about(existing, spare, document)))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [Path(sys.executable).with_name("schemathesis"), "run", path, "--url", served.url]
    command += ["--header", f"Authorization: Bearer {served.key}"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--request-timeout", "20"]
    command += ["--continue-on-failure", "--no-color"]
    command += ["--generation-deterministic"] if SEED is None else ["--seed", SEED]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
