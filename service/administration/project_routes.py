"""/v1/projects and /v1/whoami."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from service.access import operations as access
from service.access.scopes import ADMINISTRATION, IDENTITY
from service.administration import operations as projects
from service.administration import schemas
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.idempotency import OnceByBody
from service.http.paging import page_of
from service.http.query_parameters import QueryModel, TimedPageQuery
from service.shared.resource_names import Reference

router = APIRouter(tags=[ADMINISTRATION], route_class=AuthenticatedRoute)
identity = APIRouter(tags=[IDENTITY], route_class=AuthenticatedRoute)


class ProjectQuery(TimedPageQuery):
    """Which projects to list."""

    deleted: Annotated[bool, Field(description="List the deleted ones instead of the others.")] = False


class DeleteQuery(QueryModel):
    """How to delete a project."""

    purge: Annotated[bool, Field(description="Remove all data of a deleted project; this cannot be undone.")] = False


@identity.get("/v1/whoami", operation_id="whoami", summary="Identify the key of the request")
def whoami(caller: Caller, services: Web) -> schemas.Identity:
    """Get the key of this request, its project, the quotas that apply, and how much of them is used."""
    with services.database.reader() as session:
        return projects.identify(session, caller)


@router.post(
    "/v1/projects",
    status_code=201,
    operation_id="create_project",
    summary="Create a project",
    responses=errors("operator_required", "project_exists"),
)
def create_project(
    body: schemas.ProjectRequest, response: Response, caller: Caller, services: Web, once: OnceByBody
) -> schemas.NewProject:
    """Create a project with its first key. Only for keys of an operator project: 403 for others."""
    access.require_operator(caller, "creates projects")

    def create(session: Session) -> schemas.NewProject:
        return projects.create(session, body)

    project = once.do(services.database, create, schemas.NewProject, secret="token")  # noqa: S106 name of a field
    response.headers["Location"] = f"/v1/projects/{project.id}"
    return project


@router.get("/v1/projects", operation_id="list_projects", summary="List the projects that the key can see")
def list_projects(
    query: Annotated[ProjectQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.ProjectPage:
    """List the caller's project; for keys of an operator project, all projects."""
    page = page_of(query, request)
    with services.database.reader() as session:
        listed = access.list_projects(session, caller, query.deleted, query.period, page.after, page.size + 1)
        items, token = page.cut([(project.id, projects.describe(session, project)) for project in listed])
    return schemas.ProjectPage(projects=items, next_page_token=token)


@router.get(
    "/v1/projects/{project_id}",
    operation_id="get_project",
    summary="Get a project",
    responses=errors("project_not_found"),
)
def get_project(project_id: Reference, caller: Caller, services: Web) -> schemas.Project:
    """Get the caller's project; for keys of an operator project, any that was not purged."""
    with services.database.reader() as session:
        return projects.describe(session, access.get_project(session, caller, project_id))


@router.patch(
    "/v1/projects/{project_id}",
    operation_id="change_project",
    summary="Rename a project or set its quotas",
    responses=errors("operator_required", "project_exists", "project_not_found"),
)
def change_project(
    project_id: Reference, body: schemas.ProjectChanges, caller: Caller, services: Web
) -> schemas.Project:
    """Set the name or, with a key of an operator project, the quotas.

    They hold at once in the process of this call, within 2 s in all others.
    """
    with services.database.writer.begin() as session:
        changed = projects.change(session, caller, project_id, body)
    services.keys.invalidate_project(project_id)
    return changed


@router.delete(
    "/v1/projects/{project_id}",
    status_code=204,
    operation_id="delete_project",
    summary="Delete or purge a project",
    responses=errors("operator_required", "own_project", "project_in_use", "project_not_deleted", "project_not_found"),
)
def delete_project(
    project_id: Reference, query: Annotated[DeleteQuery, Query()], caller: Caller, services: Web
) -> None:
    """Delete another project, with a key of an operator project. `restore` undoes it.

    Its keys are refused at once in the process of this call, within 2 s in all others, and its jobs are cancelled.

    `purge` removes all data of a project that was deleted at least 10 s before, and none of whose jobs runs any more.
    Its audit events stay. A purge that was interrupted can be repeated.
    """
    if query.purge:
        with services.database.writer.begin() as session:
            projects.begin_purge(session, caller, project_id)
        work = projects.purge_some
    else:
        with services.database.writer.begin() as session:
            projects.delete(session, caller, project_id)
        services.keys.invalidate_project(project_id)
        work = projects.cancel_some
    while True:
        with services.database.writer.begin() as session:
            if not work(session, project_id):
                return


@router.post(
    "/v1/projects/{project_id}/restore",
    operation_id="restore_project",
    summary="Restore a deleted project",
    responses=errors("operator_required", "project_not_found"),
)
def restore_project(project_id: Reference, caller: Caller, services: Web) -> schemas.Project:
    """Undo the deletion of a project that was not purged, with a key of an operator project.

    Its keys are valid again, except those that were revoked. Jobs that the deletion cancelled stay cancelled.
    """
    with services.database.writer.begin() as session:
        return projects.restore(session, caller, project_id)
