"""What tests of operations share."""

from collections.abc import Iterator

import pytest
import torch

from models.ops import build, library


@pytest.fixture(params=list(build.PROCESSORS))
def processor(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each kind of processor up to this machine's own."""
    own = torch.backends.cpu.get_cpu_capability()
    newest = list(build.PROCESSORS).index(own) if own in build.PROCESSORS else len(build.PROCESSORS) - 1
    if list(build.PROCESSORS).index(request.param) < newest:
        pytest.skip(f"this machine has no {request.param}")
    with library.using(build.library(request.param)):
        yield
