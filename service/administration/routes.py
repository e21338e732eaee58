"""/v1/api-keys, /v1/projects and /v1/audit-events."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from service.access import audit, quotas
from service.access import operations as access
from service.access.quotas import Quotas
from service.access.scopes import ADMINISTRATION
from service.access.tables import Project
from service.administration import schemas
from service.http.authenticated_route import AuthenticatedRoute
from service.http.dependencies import Caller, Moment, Web
from service.http.idempotency import OnceByBody
from service.http.paging import page_of
from service.http.query_parameters import PageQuery
from service.shared import storage
from service.shared.errors import NotFound
from service.shared.resource_names import Reference

router = APIRouter(tags=[ADMINISTRATION], route_class=AuthenticatedRoute)

NOT_OURS: dict[str, Any] = {"description": "No such project in the caller's sight."}


class AuditQuery(PageQuery):
    """Which audit events to list."""

    action: Annotated[str | None, Field(max_length=200, description="Operation id, such as `create_run`.")] = None
    key_id: Annotated[Reference | None, Field(description="What this key has done.")] = None
    since: Annotated[Moment | None, Field(description="From this time on, with its zone.")] = None
    until: Annotated[Moment | None, Field(description="Before this time.")] = None
    project_id: Annotated[Reference | None, Field(description="Another project, for operating ones.")] = None


@router.post("/v1/api-keys", status_code=201, operation_id="create_api_key")
def create_api_key(
    body: schemas.ApiKeyRequest, response: Response, caller: Caller, services: Web, once: OnceByBody
) -> schemas.NewApiKey:
    """Make a key of this project. It is shown in this answer and never again.

    A key makes others with scopes that it has itself, and none that expire later than itself: 403.
    """

    def create(session: Session) -> schemas.NewApiKey:
        access.check_grant(session, caller, body.scopes, body.expires_in_seconds)
        key, token = access.create_key(session, caller.project_id, body.name, body.scopes, body.expires_in_seconds)
        session.refresh(key)
        return schemas.NewApiKey(**schemas.ApiKey.model_validate(key).model_dump(), token=token)

    made = once.do(services.database, create, schemas.NewApiKey, secret="token")  # noqa: S106 a field's name
    response.headers["Location"] = f"/v1/api-keys/{made.id}"
    return made


@router.get("/v1/api-keys", operation_id="list_api_keys")
def list_api_keys(
    query: Annotated[PageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.ApiKeyPage:
    """The project's keys, newest first, revoked ones too."""
    page = page_of(query, request)
    with services.database.reader() as session:
        keys = access.list_keys(session, caller.project_id, page.after, page.size + 1)
        items, token = page.cut([(key.id, schemas.ApiKey.model_validate(key)) for key in keys])
    return schemas.ApiKeyPage(api_keys=items, next_page_token=token)


@router.get("/v1/api-keys/{key_id}", operation_id="get_api_key")
def get_api_key(key_id: Reference, caller: Caller, services: Web) -> schemas.ApiKey:
    """What is remembered of a key."""
    with services.database.reader() as session:
        return schemas.ApiKey.model_validate(access.get_key(session, caller.project_id, key_id))


@router.delete("/v1/api-keys/{key_id}", status_code=204, operation_id="revoke_api_key")
def revoke_api_key(key_id: Reference, caller: Caller, services: Web) -> None:
    """End a key for good: at once in the process that answers this, within two seconds in all others."""
    with services.database.writer.begin() as session:
        access.revoke_key(session, caller.project_id, key_id)
    services.keys.forget(key_id)


@router.post("/v1/projects", status_code=201, operation_id="create_project")
def create_project(body: schemas.ProjectRequest, caller: Caller, services: Web, once: OnceByBody) -> schemas.NewProject:
    """Make a project with its first key. Only keys of an operating project can; for others there is no such call."""
    if not caller.operates:
        raise NotFound("call", "POST /v1/projects")

    def create(session: Session) -> schemas.NewProject:
        project = access.create_project(session, body.name, Quotas(**body.quotas.model_dump()))
        _, token = access.create_key(session, project.id, "first key")
        session.refresh(project)
        return schemas.NewProject(**_described(session, project).model_dump(), token=token)

    return once.do(services.database, create, schemas.NewProject, secret="token")  # noqa: S106 a field's name


@router.get("/v1/projects", operation_id="list_projects")
def list_projects(
    query: Annotated[PageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.ProjectPage:
    """The caller's project; all of them for a key of an operating project."""
    page = page_of(query, request)
    with services.database.reader() as session:
        found = access.list_projects(session, caller, page.after, page.size + 1)
        items, token = page.cut([(project.id, _described(session, project)) for project in found])
    return schemas.ProjectPage(projects=items, next_page_token=token)


@router.get("/v1/audit-events", operation_id="list_audit_events", responses={404: NOT_OURS})
def list_audit_events(
    query: Annotated[AuditQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.AuditEventPage:
    """What was changed in the project, by which key, newest first. Nothing of it is ever altered or deleted."""
    page, project_id = page_of(query, request), query.project_id or caller.project_id
    if project_id != caller.project_id and not caller.operates:
        raise NotFound("project", project_id)
    filters = audit.Filters(query.action, query.key_id, query.since, query.until)
    after = None if page.after is None else int(page.after)
    with services.database.reader() as session:
        found = audit.list_events(session, project_id, filters, after, page.size + 1)
        items, token = page.cut([(str(event.id), schemas.AuditEvent.model_validate(event)) for event in found])
    return schemas.AuditEventPage(audit_events=items, next_page_token=token)


def _described(session: Session, project: Project) -> schemas.Project:
    return schemas.Project(
        id=project.id,
        name=project.name,
        quotas=schemas.ProjectQuotas(**quotas.of_project(project)._asdict()),
        stored_bytes=storage.stored_bytes(session, project.id),
        created_at=project.created_at,
    )
