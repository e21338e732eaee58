"""A Python client generated from the OpenAPI document is typed, and runs the session of the README."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.contract import readme_session
from tests.contract.conftest import Document, Served

PROJECT = Path(__file__).parent / "python_client"
PACKAGE = "sensorium_client"
BIN = Path(sys.executable).parent
IMPORT_ALL = f"""
import importlib, pkgutil, {PACKAGE}
for module in pkgutil.walk_packages({PACKAGE}.__path__, "{PACKAGE}."):
    importlib.import_module(module.name)
"""


def _output(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def generated(document: Document, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a generated package and of the program that uses it, and the output of the generator."""
    folder = tmp_path_factory.mktemp("generated") / "project"
    shutil.copytree(PROJECT, folder)
    (folder / "openapi.json").write_text(json.dumps(document))
    # It formats the code with ruff by default; its format does not matter here.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    command = [BIN / "openapi-python-client", "generate", "--meta", "none", "--path", "openapi.json"]
    return folder, _output(folder, *command, "--output-path", PACKAGE, "--config", "config.json")


def test_the_generator_understands_every_operation(generated: tuple[Path, str], document: Document) -> None:
    folder, said = generated
    assert "WARNING" not in said.upper(), said
    assert "unable" not in said.lower(), said
    made = {path.stem for path in (folder / PACKAGE / "api").glob("*/*.py")} - {"__init__"}
    assert made == {one["operationId"] for operations in document["paths"].values() for one in operations.values()}


def test_every_module_of_the_generated_client_can_be_imported(generated: tuple[Path, str]) -> None:
    _output(generated[0], sys.executable, "-c", IMPORT_ALL)


def test_the_types_of_the_generated_client_fit_its_code_and_the_session(generated: tuple[Path, str]) -> None:
    _output(generated[0], BIN / "mypy", "--strict", "--cache-dir", ".mypy_cache", PACKAGE, "session.py")


def test_the_generated_client_runs_the_session_of_the_readme(
    generated: tuple[Path, str], service: Service, served: Served
) -> None:
    readme_session.check([sys.executable, "session.py"], generated[0], service, served)
