"""The parser process of large bodies: results, errors, restart and exit."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.shared.errors import BadInput, Fault, InvalidToken, TooLarge, Unavailable
from service.shared.parser_process import Read, ReadingProcess, Values
from tests.conftest import wait_until


def echo(values: Values, body: bytes) -> Read:
    """Runs in the child process, like all readers in this file."""
    arrays = {
        "body": np.frombuffer(body, np.uint8),
        "matrix": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2],
        "nothing": np.zeros((0, 4), np.float32),
        "scalar": np.array(True),
    }
    return {**values, "process": os.getpid()}, arrays


def refuse(values: Values, body: bytes) -> Read:
    raise {
        "faults": BadInput([Fault("/a", "wrong", "a is wrong"), Fault("/b", "wrong", "b is wrong")]),
        "token": InvalidToken([Fault("/t", "strange", "not ours")], "strange"),
        "large": TooLarge("rows_too_large", "too many"),
        "broken": ZeroDivisionError("a bug"),
    }[values["how"]]


def die(values: Values, body: bytes) -> Read:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture(scope="module")
def process() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.close()


def read(process: ReadingProcess, reader: Any, body: bytes = b"", **values: Any) -> Read:
    return asyncio.run(process.read(reader, values, body))


def test_values_and_arrays_return_unchanged(process: ReadingProcess) -> None:
    body = bytes(range(256)) * 20_000
    values, arrays = read(process, echo, body, number=2**53, seconds=float("inf"), none=None, names=["a"])
    assert values.pop("process") != os.getpid()
    assert values == {"number": 2**53, "seconds": float("inf"), "none": None, "names": ["a"]}
    assert arrays["body"].tobytes() == body
    assert arrays["matrix"].tolist() == [[0, 2], [3, 5]]
    assert (arrays["nothing"].shape, arrays["nothing"].dtype) == ((0, 4), np.float32)
    assert (arrays["scalar"].shape, arrays["scalar"].item()) == ((), True)


def test_one_process_parses_all_bodies(process: ReadingProcess) -> None:
    assert read(process, echo)[0] == read(process, echo)[0]


def test_errors_of_a_reader_are_raised_in_the_caller(process: ReadingProcess) -> None:
    with pytest.raises(BadInput) as several:
        read(process, refuse, how="faults")
    assert [fault.pointer for fault in several.value.faults] == ["/a", "/b"]
    assert several.value.detail == "a is wrong (and 1 more)"
    with pytest.raises(InvalidToken) as token:
        read(process, refuse, how="token")
    assert token.value.code == "strange"
    with pytest.raises(TooLarge) as large:
        read(process, refuse, how="large")
    assert (large.value.code, large.value.detail) == ("rows_too_large", "too many")
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.*a bug"):
        read(process, refuse, how="broken")


def test_an_exited_process_is_replaced(process: ReadingProcess) -> None:
    before = read(process, echo)[0]["process"]
    with pytest.raises(Unavailable, match="exited"):
        read(process, die)
    after = read(process, echo)[0]["process"]
    assert before != after
    os.kill(after, signal.SIGKILL)
    wait_until(lambda: not _lives(process), what="the process is gone")
    assert read(process, echo)[0]["process"] != after


def test_the_process_exits_with_its_parent() -> None:
    process = ReadingProcess()
    process_id = read(process, echo)[0]["process"]
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def _lives(process: ReadingProcess) -> bool:
    child = process._process
    return child is not None and child.poll() is None
