"""One client of `benchmarks.uploads`, a process of its own that does little but copy bytes between files and sockets.

`python -m benchmarks.transfer upload URL KEY FILE NUMBER` uploads a file once, behind a line with the number.
`python -m benchmarks.transfer download URL KEY PATH SECONDS` downloads a path again and again. Both wait for a line on
standard input, and print the bytes and the seconds that it took.
"""

import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

READ_BYTES = 2**20
OK, CREATED = b"200", b"201"


def upload(url: str, key: str, file: str, number: str) -> int:
    """Send the file. Returns its size."""
    first, size = f'{{"x": [{number}]}}\n'.encode(), Path(file).stat().st_size
    with Path(file).open("rb") as content, _connected(url) as connection:
        length = f"Content-Length: {len(first) + size}\r\n"
        connection.sendall(_head("POST", url, "/v1/uploads", key, length) + first)
        connection.sendfile(content)
        _check(connection.recv(READ_BYTES), CREATED)
    return size


def download(url: str, key: str, path: str, seconds: str) -> int:
    """Read answers until the time is over. Returns the bytes that were read."""
    until = time.monotonic() + float(seconds)
    received, buffer = 0, bytearray(READ_BYTES)
    while time.monotonic() < until:
        with _connected(url) as connection:
            connection.sendall(_head("GET", url, path, key, ""))
            count = connection.recv_into(buffer)
            _check(bytes(buffer[:count]), OK)
            while count and time.monotonic() < until:
                received += count
                count = connection.recv_into(buffer)
    return received


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=300)


def _head(method: str, url: str, path: str, key: str, length: str) -> bytes:
    host = f"Host: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n{length}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{host}".encode()


def _check(answer: bytes, status: bytes) -> None:
    if answer.split(b" ", 2)[1:2] != [status]:
        raise SystemExit(f"the service answers {answer[:1000]!r}")


if __name__ == "__main__":
    action, arguments = sys.argv[1], sys.argv[2:]
    sys.stdin.readline()
    began = time.monotonic()
    moved = {"upload": upload, "download": download}[action](*arguments)
    print(moved, time.monotonic() - began)
