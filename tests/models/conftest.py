"""What all tests of models share."""

from collections.abc import Iterator

import pytest
import torch

from models.ops import library
from tests.conftest import need


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors lose more time on handing work to threads than they win: 80 s become 30 s on two busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kernels() -> None:
    """The kernels are there: a test that compares with them compares two things."""
    need(library.available() or None, "the kernels (make kernels)")


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Every test draws the same numbers, whichever tests ran before it."""
    torch.manual_seed(0)
