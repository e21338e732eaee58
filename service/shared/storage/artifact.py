"""The name of a stored file, and the check that its content is what was stored."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class CorruptArtifact(OSError):
    """A stored file that is missing, or whose size or digest differs from what was recorded."""


@dataclass(frozen=True)
class Stored:
    """A file that is durable under the name of its content. `exists` asks the store whether it still has the file."""

    project_id: str
    sha256: str
    size_bytes: int
    exists: Callable[[], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Its name within the store."""
        return f"{self.project_id}/{self.sha256}"


def verify(path: Path, stored: Stored) -> None:
    """Read the whole file, and compare its size and digest. Raises CorruptArtifact."""
    name = f"artifact {stored.sha256[:12]}"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != stored.size_bytes:
                raise CorruptArtifact(f"{name} has {size} bytes, expected {stored.size_bytes}")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{name} is missing from the store") from error
    if digest != stored.sha256:
        raise CorruptArtifact(f"{name} has other bytes than were stored: its sha256 begins with {digest[:12]}")
