"""How much a project may have and ask for: the installation's defaults, unless the project has figures of its own."""

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.shared.errors import TooMany
from service.shared.settings import Settings
from service.shared.tables import Artifact, Job, Project

# Worth asking again after so long: a run may have ended by then.
RETRY_SECONDS = 30.0


class Quotas(NamedTuple):
    """Upper limits of one project; None is no limit."""

    stored_bytes: int | None = None
    queued_runs: int | None = None
    running_runs: int | None = None
    request_rows: int | None = None
    requests_per_minute: int | None = None


NO_QUOTAS = Quotas()


def of_project(project: Project) -> Quotas:
    """The figures that a project has of its own."""
    return Quotas(*(getattr(project, f"most_{name}") for name in Quotas._fields))


def effective(own: Quotas, settings: Settings) -> Quotas:
    """What holds: a project's own figure, else the installation's."""
    return Quotas(*(mine if mine is not None else getattr(settings, f"project_{name}")
                    for name, mine in zip(Quotas._fields, own, strict=True)))  # fmt: skip


def stored_bytes(session: Session, project_id: str) -> int:
    """The bytes of all artifacts of a project."""
    return session.scalar(select(func.sum(Artifact.size_bytes)).where(Artifact.project_id == project_id)) or 0


def check_stored_bytes(session: Session, project_id: str, most: int | None) -> None:
    """Raise TooMany when a project stores as many bytes as it may."""
    if most is not None and (stored := stored_bytes(session, project_id)) >= most:
        raise TooMany("quota_exceeded", f"the project stores {stored} bytes, at most {most} are allowed", RETRY_SECONDS)


def check_request_rows(rows: int, most: int | None) -> None:
    """Raise TooMany when a request has more rows than its project may ask for at once."""
    if most is not None and rows > most:
        detail = f"the request has {rows} rows, the project may send at most {most} at once"
        raise TooMany("quota_exceeded", detail, RETRY_SECONDS)


def check_queued_runs(session: Session, project_id: str, most: int | None) -> None:
    """Raise TooMany when a project has as many queued runs as it may have."""
    if most is None:
        return
    waiting = select(func.count()).where(Job.project_id == project_id, Job.kind == "train", Job.state == "queued")
    if (count := session.scalar(waiting) or 0) >= most:
        raise TooMany(
            "quota_exceeded", f"the project has {count} queued runs, at most {most} are allowed", RETRY_SECONDS
        )
