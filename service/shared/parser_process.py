"""A child process that parses large request bodies: `python -m service.shared.parser_process`.

JSON parsers and NumPy hold Python's interpreter lock while they parse. In a thread, 32 MiB of small lists blocked the
event loop for 5 s; a process has its own lock. It starts with the first large body, parses one body at a time, and
exits when its standard input closes.

A message is the length of its head, the head in msgpack, and then the bodies or arrays, whose sizes are in the head.
"""

import asyncio
import contextlib
import fcntl
import gc
import importlib
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np

from service.shared.errors import (
    BadInput,
    Fault,
    InvalidToken,
    SensoriumError,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)

Array = np.ndarray[Any, np.dtype[Any]]
Values = dict[str, Any]
Read = tuple[Values, dict[str, Array]]
Reader = Callable[[Values, bytes], Read]
"""Parses a body. The first argument and the first result are plain values for msgpack. Raises SensoriumError."""

LARGE_BYTES = 128 * 1024
"""The process parses bodies of at least this size. Sending one of this size to it takes less than 0.5 ms."""
PIPE_BYTES = 1024**2
_HEAD = struct.Struct("<Q")
_FAULTY: tuple[type[BadInput], ...] = (BadInput, InvalidToken)
_OTHERS: tuple[type[SensoriumError], ...] = (TooLarge, UnsupportedMediaType)


class ReadingProcess:
    """The child process; it starts with the first body."""

    def __init__(self) -> None:
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._process: subprocess.Popen[bytes] | None = None

    async def read(self, reader: Reader, values: Values, body: bytes) -> Read:
        """The result of `reader` for a body. Raises its errors, and Unavailable if the process exits meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._turns, self._read, reader, values, body)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end(self._process)
        self._turns.shutdown(cancel_futures=True)

    def _read(self, reader: Reader, values: Values, body: bytes) -> Read:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = _start()
        assert process.stdin is not None  # noqa: S101 it is a pipe
        assert process.stdout is not None  # noqa: S101
        try:
            _send(process.stdin.fileno(), {"reader": [reader.__module__, reader.__name__], "values": values}, [body])
            head, buffers = _receive(process.stdout.fileno())
        except (OSError, EOFError) as error:
            self._end(process)
            detail = "the parser of large bodies exited, possibly for lack of memory; try again, or send a smaller body"
            raise Unavailable("body_not_read", detail) from error
        if "error" in head:
            raise _error(head)
        return head["values"], {
            name: buffer.view(dtype).reshape(shape)
            for (name, dtype, shape), buffer in zip(head["arrays"], buffers, strict=True)
        }

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()  # it has no state
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _start() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # Ctrl-C reaches only the service, which then closes this process
    )
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, AttributeError):  # the default size works too, only slower
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[arg-type]
    return process


def _send(to: int, head: Values, buffers: Sequence[bytes | Array]) -> None:
    views = [buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer) for buffer in buffers]
    packed = msgpack.packb({**head, "sizes": [view.nbytes for view in views]})
    for view in (memoryview(_HEAD.pack(len(packed)) + packed), *views):
        while view:
            view = view[os.write(to, view) :]


def _receive(at: int) -> tuple[Values, list[Array]]:
    """The next message. Raises EOFError at the end of the input."""
    length = _HEAD.unpack(_exactly(at, _HEAD.size).data)[0]
    head = msgpack.unpackb(_exactly(at, length).data)
    return head, [_exactly(at, size) for size in head.pop("sizes")]


def _exactly(at: int, size: int) -> Array:
    buffer = np.empty(size, np.uint8)
    view = buffer.data
    while view:
        count = os.readv(at, [view])
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


def _error(head: Mapping[str, Any]) -> SensoriumError:
    for faulty in _FAULTY:
        if faulty.__name__ == head["error"]:
            return faulty([Fault(*fault) for fault in head["faults"]], head["code"])
    for other in _OTHERS:
        if other.__name__ == head["error"]:
            return other(head["code"], head["detail"])
    raise RuntimeError(f"{head['error']} in the parser of large bodies: {head['detail']}")


def _answer(head: Values, body: bytes) -> tuple[Values, list[Array]]:
    module, name = head["reader"]
    try:
        values, arrays = getattr(importlib.import_module(module), name)(head["values"], body)
    except SensoriumError as error:
        faults = [[fault.pointer, fault.code, fault.detail] for fault in error.faults]
        return {"error": type(error).__name__, "code": error.code, "detail": error.detail, "faults": faults}, []
    except MemoryError:
        return {
            "error": "TooLarge",
            "code": "body_too_large",
            "detail": "the body needs too much memory; send a smaller one",
        }, []
    except Exception as error:
        return {"error": type(error).__name__, "detail": str(error)[:1000]}, []
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = [[name, array.dtype.str, arrays[name].shape] for name, array in contiguous.items()]
    flat = [array.reshape(math.prod(array.shape)).view(np.uint8) for array in contiguous.values()]
    return {"values": values, "arrays": described}, flat


def main() -> None:
    """Parse bodies until standard input closes."""
    to = os.dup(1)
    os.dup2(2, 1)  # libraries that print must not write into the messages
    # JSON values have no cycles. With the garbage collector, millions of small lists took ten times as long.
    gc.disable()
    while True:
        try:
            head, (body,) = _receive(0)
        except EOFError:
            return
        values, buffers = _answer(head, body.tobytes())
        _send(to, values, buffers)
        del head, body, values, buffers
        gc.collect()


if __name__ == "__main__":
    main()
