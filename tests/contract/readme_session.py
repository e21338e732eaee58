"""Runs a program that does the session of the README with a generated client, while a worker does the jobs."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.conftest import Service, wait_until
from tests.contract.conftest import Served
from tests.service import steps
from tests.service.files import packed


def check(command: Sequence[str], folder: Path, service: Service, served: Served) -> None:
    """Run `COMMAND URL KEY FILE` in a folder, and check what it prints."""
    arrays = steps.pictures() | {"label.present": np.random.default_rng(0).random(100) < 0.8}
    file = folder / "digits.npz"
    file.write_bytes(packed(**arrays))
    found = json.loads(_output([*command, served.url, served.key, str(file)], folder, service))
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


def _output(command: Sequence[str], folder: Path, service: Service) -> str:
    """What a program prints. Jobs are done while it runs."""
    printed, errors = folder / "printed", folder / "errors"
    with (
        printed.open("wb") as output,
        errors.open("wb") as error_output,
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=error_output) as program,
    ):

        def has_ended() -> bool:
            service.work("data")
            service.work("train")
            return program.poll() is not None

        try:
            wait_until(has_ended, 60, "the program ends")
        finally:
            program.kill()
    assert program.returncode == 0, errors.read_text()
    return printed.read_text()
