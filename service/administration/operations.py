"""Projects as a whole: what a key may see, changes, deletion, and the purge of everything that a project has.

Each domain offers the removal of its own rows; the order in which they are removed stands here.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from service.access import audit, deletion, quotas
from service.access import operations as access
from service.access.operations import Principal
from service.access.quotas import Quotas
from service.access.tables import Project
from service.administration import schemas
from service.datasets import deletion as datasets
from service.jobs import operations as jobs
from service.registry import deletion as registry
from service.runs import operations as runs
from service.runs.selection import KIND
from service.shared import events, storage
from service.shared.errors import Conflict
from service.shared.events import Resource

# Rows of one transaction. Other transactions wait for it: on SQLite all that write.
AT_ONCE = 20

# What refers to rows stands before them: a version to its run, a run to its dataset, both to jobs and files.
_REMOVALS: tuple[Callable[[Session, str, int], bool], ...] = (
    jobs.cancel_some,  # a request that committed just after the deletion may have queued one
    registry.remove_some,
    runs.remove_some,
    datasets.remove_some,
    jobs.remove_some,
    storage.release_some,
    deletion.remove_some,
    events.remove_some,  # after all that adds events
)


def create(session: Session, body: schemas.ProjectRequest) -> schemas.NewProject:
    """Add a project with its first key. Raises Conflict for a taken name."""
    project = access.create_project(session, body.name, Quotas(**body.quotas.model_dump()))
    _, token = access.create_key(session, project.id, "first key")
    session.refresh(project)
    return schemas.NewProject(**describe(session, project).model_dump(), token=token)


def describe(session: Session, project: Project) -> schemas.Project:
    """A project with its own quotas."""
    return schemas.Project(
        id=project.id,
        name=project.name,
        operates=project.operates,
        quotas=schemas.ProjectQuotas(**quotas.of_project(project)._asdict()),
        stored_bytes=storage.stored_bytes(session, project.id),
        created_at=project.created_at,
        deleted_at=project.deleted_at,
    )


def identify(session: Session, caller: Principal) -> schemas.Identity:
    """The caller's key and project, the quotas that apply and their use."""
    project = access.get_project(session, caller, caller.project_id)
    return schemas.Identity(
        api_key=schemas.ApiKey.model_validate(access.get_key(session, caller.project_id, caller.key_id)),
        project=schemas.OwnProject(id=project.id, name=project.name, operates=project.operates),
        quotas=schemas.EffectiveQuotas(**caller.quotas._asdict()),
        use=schemas.QuotaUse(
            stored_bytes=storage.stored_bytes(session, project.id),
            queued_runs=jobs.queued_count(session, project.id, KIND),
            running_runs=jobs.running_count(session, project.id, KIND),
        ),
    )


def change(session: Session, caller: Principal, project_id: str, changes: schemas.ProjectChanges) -> schemas.Project:
    """Set a project's name or quotas; omitted ones stay, and null quotas return to the installation's.

    Raises NotFound, Conflict for a taken name, and Forbidden for quotas by a project that does not operate.
    """
    project = access.get_project(session, caller, project_id, lock=True)
    limits = changes.limits()
    if limits:
        access.require_operator(caller, "sets quotas")
    access.change_project(session, project, changes.name, limits)
    changed = sorted(({"name"} if changes.name is not None else set()) | ({"quotas"} if limits else set()))
    _record(session, "project.changed", project_id, {"changed": changed})
    session.refresh(project)
    return describe(session, project)


def delete(session: Session, caller: Principal, project_id: str) -> None:
    """Mark a project as deleted: its keys are refused. The caller then cancels its jobs with `cancel_some`.

    A deleted project stays as it is. Raises NotFound, Forbidden for a project that does not operate, and Conflict for
    the caller's own project.
    """
    _check_deletion(session, caller, project_id)
    deletion.mark(session, access.get_project(session, caller, project_id, lock=True))
    _record(session, "project.deleted", project_id)


def restore(session: Session, caller: Principal, project_id: str) -> schemas.Project:
    """Undo the deletion of a project. Its cancelled jobs stay so. Raises NotFound and Forbidden."""
    project = access.get_project(session, caller, project_id, lock=True)
    access.require_operator(caller, "restores projects")
    deletion.restore(session, project)
    _record(session, "project.restored", project_id)
    session.refresh(project)
    return describe(session, project)


def cancel_some(session: Session, project_id: str) -> bool:
    """Cancel some jobs of a deleted project. Returns False if there were none; call it until then."""
    return jobs.cancel_some(session, project_id, AT_ONCE)


def begin_purge(session: Session, caller: Principal, project_id: str) -> None:
    """End the time in which a deleted project can be restored. The caller then removes all with `purge_some`.

    Raises what `delete` raises, and Conflict for a project that is not deleted, was so just now, or has a running job.
    """
    _check_deletion(session, caller, project_id)
    deletion.begin_purge(session, project_id)
    if jobs.is_running(session, project_id):
        detail = "a worker still runs a job of the project, which was asked to stop: purge the project later"
        raise Conflict("project_in_use", detail)
    audit.record_in(session, project_id)


def purge_some(session: Session, project_id: str) -> bool:
    """Remove some rows of a purged project. Returns False if there were none; call it until then.

    Files are removed by the next sweeps. The row of the project stays for its audit events.
    """
    access.lock_project(session, project_id)
    return any(remove_some(session, project_id, AT_ONCE) for remove_some in _REMOVALS)


def _record(session: Session, type: str, project_id: str, data: dict[str, Any] | None = None) -> None:
    """Record a change in the events and the audit trail of the changed project."""
    events.record(session, project_id, type, Resource("project", project_id), data)
    audit.record_in(session, project_id)


def _check_deletion(session: Session, caller: Principal, project_id: str) -> None:
    if not caller.operates:
        access.get_project(session, caller, project_id)
    access.require_operator(caller, "deletes projects")
    if project_id == caller.project_id:
        detail = "the key belongs to this project, expected a key of another operator project"
        raise Conflict("own_project", detail)
