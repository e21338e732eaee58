"""What a stored file is called, and what can be wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass, field


class CorruptArtifact(OSError):
    """A stored file that is missing, or whose size or digest is not what was recorded."""


@dataclass(frozen=True)
class Stored:
    """A file that is durable under its content's name. `is_there` asks the store whether it still is."""

    project_id: str
    sha256: str
    size_bytes: int
    is_there: Callable[[], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Where it stands within the store."""
        return f"{self.project_id}/{self.sha256}"
