"""What the supervisor needs of a kind of job: one claimed job of it."""

from typing import Any, Protocol

from sqlalchemy.orm import Session

from service.shared.storage import Stored
from worker.worker_state import WorkerState


class ClaimedJob(Protocol):
    """One claimed job, as the supervisor sees it."""

    program: str
    """The module to run as a child process."""
    devices: int
    """The number of devices it takes."""

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The spec for the child process. Verifies the files it will read; raises CorruptArtifact."""

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Store what a progress event reports. Raises TooMany for a file with which the project stores too much."""

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """The error of the job when its program crashed (`ending` says how), if another attempt would crash too."""

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the outcome's rows, in the transaction that ends the job. Raises TooMany as `record` does."""
