"""The npm packages of a test, installed once per lock file under `var/`."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.conftest import need

CACHE = Path(__file__).parents[2] / "var" / "node-packages"


def installed(project: Path) -> Path:
    """The `node_modules` folder for the lock file of an npm project.

    Skips the test without node, npm or a registry; fails it if all services are required.
    """
    need(shutil.which("node") and shutil.which("npm"), "node with npm")
    lock = project / "package-lock.json"
    folder = CACHE / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            copy = Path(unfinished, "project")
            copy.mkdir()
            for file in (project / "package.json", lock):
                shutil.copy(file, copy)
            _install(copy)
            if not folder.exists():  # else a run of the tests beside this one was first
                copy.rename(folder)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    if done.returncode == 0:
        return
    if os.environ.get("SENSORIUM_REQUIRE_SERVICES") == "1":
        pytest.fail(f"npm ci failed, which SENSORIUM_REQUIRE_SERVICES=1 does not allow:\n{done.stdout}")
    pytest.skip(f"npm ci failed; is the npm registry reached?\n{done.stdout}")
