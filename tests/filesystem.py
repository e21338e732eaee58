"""A small file system of a test's own, which can be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PIECE_BYTES = 1024**2


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs at `folder`. Skips the test where mounting is not allowed."""
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def free_bytes(folder: Path) -> int:
    """What is left there for others than root."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def fill(file: Path, leave_bytes: int = 0) -> None:
    """Write to `file` until so many bytes are left."""
    with file.open("ab", buffering=0) as ballast:
        while (left := free_bytes(file.parent) - leave_bytes) > 0:
            try:
                ballast.write(bytes(min(PIECE_BYTES, left)))
            except OSError:  # another process took the rest
                continue
