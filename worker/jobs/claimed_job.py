"""What the supervisor needs to know of a claimed job. Each kind of job implements it in its own file."""

from typing import Any, Protocol

from sqlalchemy.orm import Session

from service.shared.storage import Stored
from worker.worker_state import WorkerState


class ClaimedJob(Protocol):
    """One claimed job. `max_bytes` is what its project may store, None without a quota."""

    program: str
    """The module that the child process runs."""
    devices: int
    """The number of devices that the job uses."""

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The spec for the child process. Verifies the files that it names. Raises CorruptArtifact."""

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Save a `progress` or `checkpoint` event. Raises TooMany for a file that exceeds max_bytes."""

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """The error of the job when its program crashed (`ending` says how), if another attempt would crash too."""

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Add the rows of the outcome, in the transaction that ends the job. Raises TooMany as `record` does."""
