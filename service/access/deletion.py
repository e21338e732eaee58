"""Deletes projects: marks them, so that it can be undone, then removes what access control stores of them.

A deleted project keeps its name and its rows. Its keys are refused and its jobs are not claimed, which follows from
`deleted_at` alone. A purged one keeps its row and its audit events, which the database refuses to delete.
"""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.access.tables import ApiKey, IdempotencyKey, Project
from service.shared.database import now
from service.shared.errors import Conflict, NotFound

# A purge begins only then: no request that was authenticated before the deletion changes anything any more.
QUIET_SECONDS = 10.0


def mark(session: Session, project: Project) -> None:
    """Mark a project as deleted; a deleted one stays as it is."""
    is_in_use = Project.id == project.id, Project.deleted_at.is_(None)
    session.execute(update(Project).where(*is_in_use).values(deleted_at=now()))
    session.refresh(project)


def restore(session: Session, project: Project) -> None:
    """Undo the deletion of a project that was not purged. Keys are valid again, except those revoked by themselves."""
    project.deleted_at = None
    session.flush()


def begin_purge(session: Session, project_id: str) -> None:
    """Give the name of a deleted project free, and end the time in which it can be restored.

    The caller has made sure that none of its jobs runs. Nothing changes for a purged project, so that an interrupted
    purge can be repeated. Raises NotFound, and Conflict for a project that is not deleted, or was so just now.
    """
    project = session.scalar(select(Project).where(Project.id == project_id).with_for_update(key_share=True))
    if project is None:
        raise NotFound("project", project_id)
    if project.purged_at is not None:
        return
    if project.deleted_at is None:
        raise Conflict("project_not_deleted", f"project {project.name!r} is in use: delete it without `purge` first")
    is_quiet = select(Project.id).where(Project.id == project_id, Project.deleted_at < now(-QUIET_SECONDS))
    if session.scalar(is_quiet) is None:
        detail = f"project {project.name!r} was deleted less than {QUIET_SECONDS:g} s ago: purge it later"
        raise Conflict("project_in_use", detail)
    freed = {"name": project_id, "operates": False, "purged_at": now()}
    session.execute(update(Project).where(Project.id == project_id).values(freed))


def remove_some(session: Session, project_id: str, at_most: int) -> bool:
    """Delete some keys or stored answers of a purged project. Returns False if it had none."""
    answers = select(IdempotencyKey.key).where(IdempotencyKey.project_id == project_id).limit(at_most)
    if keys := session.scalars(answers).all():
        session.execute(
            delete(IdempotencyKey).where(IdempotencyKey.project_id == project_id, IdempotencyKey.key.in_(keys))
        )
        return True
    if ids := session.scalars(select(ApiKey.id).where(ApiKey.project_id == project_id).limit(at_most)).all():
        session.execute(delete(ApiKey).where(ApiKey.id.in_(ids)))
    return bool(ids)
