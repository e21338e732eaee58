"""A TypeScript client with types generated from the OpenAPI document runs the session of the README."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.contract import node_packages, readme_session
from tests.contract.conftest import Document, Served

PROJECT = Path(__file__).parent / "typescript"


def _node(folder: Path, *arguments: str) -> None:
    command = ["node", *arguments]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def compiled(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the program was compiled against the generated types."""
    packages = node_packages.installed(PROJECT)
    folder = tmp_path_factory.mktemp("typescript") / "project"
    shutil.copytree(PROJECT, folder)
    (folder / "node_modules").symlink_to(packages, target_is_directory=True)
    (folder / "openapi.json").write_text(json.dumps(document))
    _node(folder, "generate.mjs", "openapi.json", "schema.ts")
    _node(folder, "node_modules/typescript/bin/tsc", "--project", ".")
    return folder


@pytest.mark.slow
def test_a_typescript_client_runs_the_session_of_the_readme(compiled: Path, service: Service, served: Served) -> None:
    readme_session.check(["node", "built/session.js"], compiled, service, served)
