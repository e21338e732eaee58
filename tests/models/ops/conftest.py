"""What tests of operations share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.ops import build, library

# Set by test_sanitizers.py: these tests run once with libraries that were compiled with sanitizers.
FOLDER = Path(os.environ.get("KERNELS_UNDER_TEST", build.FOLDER))


@pytest.fixture(scope="package", autouse=True)
def _kernels_under_test() -> Iterator[None]:
    path = build.library(torch.backends.cpu.get_cpu_capability(), FOLDER)
    if FOLDER == build.FOLDER or not path.exists():
        yield
        return
    with library.using(path):
        yield


@pytest.fixture(params=list(build.PROCESSORS))
def processor(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each kind of processor up to this machine's own."""
    own = torch.backends.cpu.get_cpu_capability()
    newest = list(build.PROCESSORS).index(own) if own in build.PROCESSORS else len(build.PROCESSORS) - 1
    if list(build.PROCESSORS).index(request.param) < newest:
        pytest.skip(f"this machine has no {request.param}")
    with library.using(build.library(request.param, FOLDER)):
        yield
