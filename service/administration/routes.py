"""/v1/api-keys and /v1/audit-events."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from service.access import audit
from service.access import operations as access
from service.access.scopes import ADMINISTRATION
from service.administration import schemas
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.idempotency import OnceByBody
from service.http.paging import page_of
from service.http.query_parameters import TimedPageQuery
from service.shared.errors import NotFound
from service.shared.resource_names import Reference

router = APIRouter(tags=[ADMINISTRATION], route_class=AuthenticatedRoute)


class AuditQuery(TimedPageQuery):
    """Filters of audit events."""

    action: Annotated[str | None, Field(max_length=200, description="Operation id, such as `create_run`.")] = None
    key_id: Annotated[Reference | None, Field(description="Events of this key.")] = None
    project_id: Annotated[Reference | None, Field(description="Another project; for operator projects only.")] = None


@router.post(
    "/v1/api-keys",
    status_code=201,
    operation_id="create_api_key",
    summary="Create an API key",
    responses=errors("key_outlives_its_maker"),
)
def create_api_key(
    body: schemas.ApiKeyRequest, response: Response, caller: Caller, services: Web, once: OnceByBody
) -> schemas.NewApiKey:
    """Create an API key of this project. The key is only shown in this response.

    The new key must not have a scope that the caller's key lacks, and must not expire later than it: 403.
    """

    def create(session: Session) -> schemas.NewApiKey:
        access.check_grant(session, caller, body.scopes, body.expires_in_seconds)
        key, token = access.create_key(session, caller.project_id, body.name, body.scopes, body.expires_in_seconds)
        session.refresh(key)
        return schemas.NewApiKey(**schemas.ApiKey.model_validate(key).model_dump(), token=token)

    key = once.do(services.database, create, schemas.NewApiKey, secret="token")  # noqa: S106 name of a field
    response.headers["Location"] = f"/v1/api-keys/{key.id}"
    return key


@router.get("/v1/api-keys", operation_id="list_api_keys", summary="List the API keys of the project")
def list_api_keys(
    query: Annotated[TimedPageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.ApiKeyPage:
    """List the project's keys, newest first, including revoked ones."""
    page = page_of(query, request)
    with services.database.reader() as session:
        keys = access.list_keys(session, caller.project_id, query.period, page.after, page.size + 1)
        items, token = page.cut([(key.id, schemas.ApiKey.model_validate(key)) for key in keys])
    return schemas.ApiKeyPage(api_keys=items, next_page_token=token)


@router.get(
    "/v1/api-keys/{key_id}", operation_id="get_api_key", summary="Get an API key", responses=errors("api_key_not_found")
)
def get_api_key(key_id: Reference, caller: Caller, services: Web) -> schemas.ApiKey:
    """Get a key, without its secret."""
    with services.database.reader() as session:
        return schemas.ApiKey.model_validate(access.get_key(session, caller.project_id, key_id))


@router.delete(
    "/v1/api-keys/{key_id}",
    status_code=204,
    operation_id="revoke_api_key",
    summary="Revoke an API key",
    responses=errors("api_key_not_found"),
)
def revoke_api_key(key_id: Reference, caller: Caller, services: Web) -> None:
    """Revoke a key permanently: at once in the process of this call, within 2 s in all others."""
    with services.database.writer.begin() as session:
        access.revoke_key(session, caller.project_id, key_id)
    services.keys.invalidate(key_id)


@router.get(
    "/v1/audit-events",
    operation_id="list_audit_events",
    summary="List changes of the project",
    responses=errors("project_not_found"),
)
def list_audit_events(
    query: Annotated[AuditQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.AuditEventPage:
    """List the changes of the project, newest first. Audit events are never changed or deleted."""
    page, project_id = page_of(query, request), query.project_id or caller.project_id
    if project_id != caller.project_id and not caller.operates:
        raise NotFound("project", project_id)
    filters = audit.Filters(query.action, query.key_id, query.period)
    after = None if page.after is None else audit.Place.of(page.after)
    with services.database.reader() as session:
        events = audit.list_events(session, project_id, filters, after, page.size + 1)
        rows = [(audit.Place(event.created_at, event.id).key(), event) for event in events]
        items, token = page.cut([(key, schemas.AuditEvent.model_validate(event)) for key, event in rows])
    return schemas.AuditEventPage(audit_events=items, next_page_token=token)
