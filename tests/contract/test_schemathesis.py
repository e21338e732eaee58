"""Responses to generated requests conform to the OpenAPI document, and requests are accepted exactly if they fit it.

`make test-slow` sends a fixed, small selection. `make fuzz` sends much more, from a seed that it prints; what it found
is sent again with `make fuzz FUZZ_SEED=…`. Exceptions are in `schemathesis_exceptions`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.contract import narrowed_document, schemathesis_exceptions
from tests.contract.conftest import Document, Served
from tests.contract.narrowed_document import Resources

ROOT = Path(__file__).parents[2]
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "3")
SEED = os.environ.get("FUZZ_SEED")
# The small selection takes four minutes.
SECONDS = 800 if EXAMPLES == "3" else 3500
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
    "ignored_auth",
    "positive_data_acceptance",
    "negative_data_rejection",
    "missing_required_header",
    "refusals_are_listed",
)


@pytest.fixture(scope="module")
def found(service: Service, served: Served) -> Resources:
    """What generated requests are about."""
    return narrowed_document.resources(service, served.key_id, served.spare_key_id)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
def test_requests_that_fit_the_document_are_accepted(
    served: Served, found: Resources, document: Document, tmp_path: Path
) -> None:
    document = narrowed_document.accepted(found, document)
    _check("positive", "examples,coverage,fuzzing", document, served, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
def test_requests_that_do_not_fit_the_document_are_refused(
    served: Served, found: Resources, document: Document, tmp_path: Path
) -> None:
    _check("negative", "coverage,fuzzing", narrowed_document.about(found, document), served, tmp_path)


def _check(mode: str, phases: str, document: Document, served: Served, folder: Path) -> None:
    """Send requests of one mode, and check every response against the document."""
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(schemathesis_exceptions.configuration(CHECKS))
    command = [Path(sys.executable).with_name("schemathesis"), "run", path, "--url", served.url, "--mode", mode]
    command += ["--header", f"Authorization: Bearer {served.key}"]
    command += ["--phases", phases, "--max-examples", EXAMPLES, "--request-timeout", "20"]
    command += ["--generation-allow-x00", "false", "--continue-on-failure", "--no-color"]
    command += ["--generation-deterministic"] if SEED is None else ["--seed", SEED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.contract.schemathesis_checks"}
    log = folder / "log.txt"
    with log.open("w") as output:
        try:
            status = subprocess.run(
                command, cwd=folder, env=environment, stdout=output, stderr=output, check=False, timeout=SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            status = None  # still running
    assert status == 0, log.read_text()


def test_every_exception_is_of_an_operation_of_the_document(document: Document) -> None:
    operations = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert schemathesis_exceptions.operations() <= operations


def test_the_decision_lists_every_exception() -> None:
    (decision,) = (ROOT / "docs" / "decisions").glob("0073-*.md")
    assert schemathesis_exceptions.table() in decision.read_text(encoding="utf-8")
