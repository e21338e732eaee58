"""Jobs of kind `convert`: an upload is read by `worker.ingest.converter` and becomes a dataset version."""

from typing import Any

from sqlalchemy.orm import Session

from service.access import quotas
from service.datasets import operations as datasets
from service.datasets.layout import REJECTED
from service.jobs.operations import Claim
from service.shared.samples import Schema
from service.shared.storage import Stored
from worker.worker_state import WorkerState


class ConvertJob:
    """A dataset version: `worker.ingest.converter` makes its stored form."""

    program = "worker.ingest.converter"
    devices = 1

    def __init__(self, session: Session, claim: Claim) -> None:
        self._job_id, self._project_id = claim.job_id, claim.project_id
        self._asked = datasets.conversion(session, claim.job_id)

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """Where the data is, the verified file of an upload, what was declared of it, and how much it may become."""
        asked = self._asked
        uploaded = {"file": str(worker.fetch(asked.file)), "format": asked.format} if asked.file else None
        with worker.database.reader() as session:
            room = quotas.room(session, self._project_id, worker.settings)
        declaration = asked.declaration.model_dump(mode="json")
        return {"source": uploaded or asked.source, "declaration": declaration, "room": room}

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """A conversion reports nothing but how far it is."""

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """Reject the file: its reader would crash at every attempt."""
        detail = f"the process that reads the file was {ending}: the file is damaged, or unpacks to more memory than a "
        detail += "conversion may take; write it again, in smaller row groups and pages"
        errors = [{"pointer": "", "code": "reader_crashed", "detail": detail}]
        return {"code": REJECTED, "detail": detail, "errors": errors}

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Fill in the dataset version."""
        schema = Schema.model_validate(result["schema"])
        found = result["rows"], schema, result["statistics"], result["warnings"]
        datasets.complete(session, self._job_id, *found, stored, max_bytes)
