"""Jobs of kind `convert`: `worker.ingest.converter` reads a source, and the result becomes a dataset version."""

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
    """The conversion of one dataset version."""

    program = "worker.ingest.converter"
    devices = 1

    def __init__(self, session: Session, claim: Claim) -> None:
        self._job_id, self._project_id = claim.job_id, claim.project_id
        self._conversion = datasets.conversion(session, claim.job_id)

    def spec(self, worker: WorkerState) -> dict[str, Any]:
        """The source, with the verified file of an upload; the declaration; and the bytes left in the quota."""
        conversion = self._conversion
        source = conversion.source
        if conversion.file is not None:
            source = {"file": str(worker.fetch(conversion.file)), "format": conversion.format}
        with worker.database.reader() as session:
            room = quotas.room(session, self._project_id, worker.settings)
        return {"source": source, "declaration": conversion.declaration.model_dump(mode="json"), "room": room}

    def record(self, session: Session, event: dict[str, Any], max_bytes: int | None) -> None:
        """Nothing: a conversion reports its progress only, which the heartbeat saves."""

    def crash_error(self, ending: str) -> dict[str, Any] | None:
        """Reject the file: its reader would crash at every attempt."""
        detail = f"the process that reads the file {ending}: the file is damaged, or unpacks to more memory than a "
        detail += "conversion may take; write it again, Parquet in smaller row groups and pages"
        errors = [{"pointer": "", "code": "reader_crashed", "detail": detail}]
        return {"code": REJECTED, "detail": detail, "errors": errors}

    def complete(self, session: Session, stored: Stored, result: dict[str, Any], max_bytes: int | None) -> None:
        """Fill in the dataset version."""
        schema = Schema.model_validate(result["schema"])
        fields = result["rows"], schema, result["statistics"], result["warnings"]
        datasets.complete(session, self._job_id, *fields, stored, max_bytes)
