"""/v1/models/{name}/aliases: movable names of versions."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.header_fields import fields
from service.http.paging import page_of
from service.http.query_parameters import PageQuery
from service.registry import aliases, schemas
from service.shared.errors import BadInput, Fault
from service.shared.resource_names import Reference

router = APIRouter(prefix="/v1/models/{name}/aliases", tags=["registry"], route_class=AuthenticatedRoute)

# The routes check both forms, and name ETags in their errors.
IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the alias must have, or `*` if it must exist.",
        json_schema_extra={"pattern": '^([*]|"[0-9]{1,9}")$'},
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(description="`*`: the alias must not exist.", json_schema_extra={"enum": ["*"]})
]


@router.get("", operation_id="list_aliases", summary="List aliases of a model", responses=errors("model_not_found"))
def list_aliases(
    name: Reference, query: Annotated[PageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.AliasPage:
    """The aliases of a model, by name."""
    page = page_of(query, request)
    with services.database.reader() as session:
        rows = aliases.list_aliases(session, caller.project_id, name, page.after, page.size + 1)
    items, token = page.cut(rows)
    return schemas.AliasPage(aliases=items, next_page_token=token)


@router.get(
    "/{alias}",
    operation_id="get_alias",
    summary="Get an alias",
    responses={200: fields("ETag"), **errors("alias_not_found")},
)
def get_alias(name: Reference, alias: Reference, response: Response, caller: Caller, services: Web) -> schemas.Alias:
    """The version that an alias names, and the version that it will name once it is loaded."""
    with services.database.reader() as session:
        body = aliases.get(session, caller.project_id, name, alias)
    response.headers["ETag"] = _etag(body)
    return body


@router.put(
    "/{alias}",
    operation_id="put_alias",
    summary="Create or move an alias",
    responses={
        200: fields("ETag"),
        201: {"model": schemas.Alias, **fields("ETag")},
        **errors(
            "alias_exists",
            "alias_missing",
            "model_not_found",
            "model_version_not_found",
            "revision_mismatch",
            "too_many_aliases",
        ),
    },
)
def put_alias(
    name: Reference,
    alias: schemas.AliasName,
    body: schemas.AliasRequest,
    response: Response,
    caller: Caller,
    services: Web,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> schemas.Alias:
    """Make an alias name a version: a new alias at once, an existing one when every inference process has loaded it.

    Until then `pending_version` is the new version, and requests to the alias use the old one.
    """
    expected = _revision(if_match)
    only_new = if_none_match is not None
    if if_none_match is not None and if_none_match != "*":
        raise BadInput([Fault("if-none-match", "bad_etag", f"If-None-Match is {if_none_match[:40]!r}, expected *")])
    with services.database.writer.begin() as session:
        put, new = aliases.put(
            session, caller.project_id, name, alias, body.version, expected, only_new, only_old=if_match == "*"
        )
    response.status_code = 201 if new else 200
    response.headers["ETag"] = _etag(put)
    if new:
        response.headers["Location"] = f"/v1/models/{name}/aliases/{alias}"
    return put


@router.delete(
    "/{alias}",
    status_code=204,
    operation_id="delete_alias",
    summary="Delete an alias",
    responses=errors("alias_not_found", "revision_mismatch"),
)
def delete_alias(name: Reference, alias: Reference, caller: Caller, services: Web, if_match: IfMatch = None) -> None:
    """Delete an alias. The version stays."""
    with services.database.writer.begin() as session:
        aliases.remove(session, caller.project_id, name, alias, _revision(if_match))


def _etag(alias: schemas.Alias) -> str:
    return f'"{alias.revision}"'


def _revision(if_match: str | None) -> int | None:
    """The revision in If-Match. Raises BadInput if it is not an ETag of an alias."""
    if if_match is None or if_match == "*":
        return None
    digits = if_match.removeprefix('"').removesuffix('"')
    if not (digits.isdecimal() and digits.isascii() and if_match == f'"{digits}"' and len(digits) < 10):
        raise BadInput([Fault("if-match", "bad_etag", f'If-Match is {if_match[:40]!r}, expected an ETag such as "3"')])
    return int(digits)
