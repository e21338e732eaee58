"""The quotas of projects: a project's own values, or else the defaults of the settings."""

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access.tables import Project
from service.shared.errors import QuotaExceeded, TooLarge
from service.shared.settings import Settings
from service.shared.storage import stored_bytes


class Quotas(NamedTuple):
    """Upper limits of one project; None is no limit."""

    stored_bytes: int | None = None
    queued_runs: int | None = None
    running_runs: int | None = None
    request_rows: int | None = None
    requests_per_minute: int | None = None


NO_QUOTAS = Quotas()


def of_project(project: Project) -> Quotas:
    """The project's own values; None where the default applies."""
    return Quotas(*(getattr(project, f"max_{name}") for name in Quotas._fields))


def effective(own: Quotas, settings: Settings) -> Quotas:
    """The values that apply: the project's own, or else the defaults of the settings."""
    return Quotas(*(mine if mine is not None else getattr(settings, f"project_{name}")
                    for name, mine in zip(Quotas._fields, own, strict=True)))  # fmt: skip


def max_stored_bytes(session: Session, project_id: str, settings: Settings) -> int | None:
    """How many bytes a project may store. Read again for each use: quotas may change while a job runs."""
    own = session.scalar(select(Project.max_stored_bytes).where(Project.id == project_id))
    return own if own is not None else settings.project_stored_bytes


def room(session: Session, project_id: str, settings: Settings) -> int | None:
    """How many more bytes a project may store; None is no limit."""
    limit = max_stored_bytes(session, project_id, settings)
    return None if limit is None else limit - stored_bytes(session, project_id)


def check_stored_bytes(session: Session, project_id: str, limit: int | None) -> None:
    """Raise QuotaExceeded when a project has used up its bytes: the result of a new job could not be stored."""
    if limit is not None and (stored := stored_bytes(session, project_id)) >= limit:
        raise QuotaExceeded(f"the project stores {stored} bytes, at most {limit} are allowed")


def check_request_rows(rows: int, limit: int | None) -> None:
    """Raise TooLarge when a request has more rows than its project may send per request."""
    if limit is not None and rows > limit:
        detail = f"the request has {rows} rows, the project may send at most {limit} at once: send several requests"
        raise TooLarge("too_many_rows", detail)
