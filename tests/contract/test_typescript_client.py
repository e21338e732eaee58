"""A TypeScript client with types generated from the OpenAPI document runs the session of the README."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Service, wait_until
from tests.contract import node_packages
from tests.contract.conftest import Document, Served
from tests.service import steps
from tests.service.files import packed

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


def test_a_typescript_client_runs_the_session_of_the_readme(
    compiled: Path, service: Service, served: Served, tmp_path: Path
) -> None:
    arrays = steps.pictures() | {"label.present": np.random.default_rng(0).random(100) < 0.8}
    file = tmp_path / "digits.npz"
    file.write_bytes(packed(**arrays))
    command = ["node", "built/session.js", served.url, served.key, str(file)]
    printed, errors = tmp_path / "printed", tmp_path / "errors"
    with (
        printed.open("wb") as output,
        errors.open("wb") as error_output,
        subprocess.Popen(command, cwd=compiled, stdout=output, stderr=error_output) as program,
    ):

        def has_ended() -> bool:
            service.work("data")
            service.work("train")
            return program.poll() is not None

        try:
            wait_until(has_ended, 30, "the program ends")
        finally:
            program.kill()
    assert program.returncode == 0, errors.read_text()
    found = json.loads(printed.read_text())
    mean, codes = found.pop("mean"), found.pop("codes")
    assert found == {
        "format": "npz",
        "arrays": [*arrays],
        "dataset": {"state": "ready", "rows": 100},
        "run": "succeeded",
        "problem": "run_not_found",
    }
    assert np.shape(mean) == (2, 2, 2)
    assert len(codes) == 2
