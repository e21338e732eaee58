"""/errors: the table of error codes as JSON, or as a page for people if the request prefers HTML."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from service.http.error_codes import FAULTS, JOB_ERRORS, PATH, PROBLEMS, ErrorCode, find, type_of
from service.http.error_responses import errors

router = APIRouter(prefix=PATH, tags=["operations"])

Kind = Literal["problem", "job_error", "fault"]
_KINDS: tuple[tuple[Kind, str, Iterable[ErrorCode]], ...] = (
    ("problem", "Responses", PROBLEMS.values()),
    ("job_error", "Errors of runs and dataset versions", JOB_ERRORS.values()),
    ("fault", "Wrong values, in <code>errors</code> of a problem", FAULTS.values()),
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept"}
_HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
_EXAMPLE: JsonDict = {
    "code": "run_not_found",
    "kind": "problem",
    "status": 404,
    "title": "Run not found",
    "meaning": "The project has no run of this id.",
    "advice": "List the runs: `GET /v1/runs`.",
    "retryable": False,
}

Accept = Annotated[str, Header(description="A page for people if it prefers `text/html`; JSON otherwise.")]


class ErrorDescription(BaseModel):
    """What an error code means, and what to do."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    code: str = Field(description="The code.")
    kind: Kind = Field(
        description="Where it is: `code` of a response, of a failed run or dataset version, or of an item of `errors`."
    )
    status: int | None = Field(description="The status of the response; null for other kinds.")
    title: str = Field(description="A few words.")
    meaning: str = Field(description="When it comes.")
    advice: str = Field(description="What to do.")
    retryable: bool = Field(description="Whether the same request or job may succeed later without a change.")


class ErrorList(BaseModel):
    """All error codes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"errors": [_EXAMPLE]}]})

    errors: list[ErrorDescription] = Field(description="Those of responses by status, then the others.")


@router.get("", operation_id="list_errors", summary="List error codes", response_model=ErrorList, responses=_HTML)
async def list_errors(accept: Accept = "*/*") -> Response:
    """Every error code of the API: what it means, and what to do. No API key is needed."""
    if prefers_html(accept):
        return _page("Error codes", "".join(_section(title, rows) for _, title, rows in _KINDS))
    listed = [_described(kind, row) for kind, _, rows in _KINDS for row in rows]
    return _json(ErrorList(errors=listed))


@router.get(
    "/{code}",
    operation_id="get_error",
    summary="Describe an error code",
    response_model=ErrorDescription,
    responses={**_HTML, **errors("not_found")},
)
async def get_error(code: str, accept: Accept = "*/*") -> Response:
    """What an error code means, and what to do. The `type` of every problem is this path. No API key is needed."""
    row = find(code)
    if row is None:
        raise HTTPException(404)
    if prefers_html(accept):
        return _page(row.title, f'<dl>{_facts(row)}</dl>\n<p><a href="../errors">All error codes</a></p>')
    kind = next(kind for kind, _, rows in _KINDS if row in rows)
    return _json(_described(kind, row))


def prefers_html(accept: str) -> bool:
    """Whether an `Accept` header names HTML with a higher quality than JSON (RFC 9110, 12.5.1)."""
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def _quality(accept: str, media_type: str) -> float:
    """The quality of the most specific range that matches; 0 for none, or for one that is no number."""
    ranges = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        given = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        ranges[name] = float(given) if re.fullmatch(r"[01](\.[0-9]{0,3})?", given) else 0.0
    matching = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((ranges[name] for name in matching if name in ranges), 0.0)


def _described(kind: Kind, row: ErrorCode) -> ErrorDescription:
    return ErrorDescription(
        code=row.code,
        kind=kind,
        status=row.status,
        title=row.title,
        meaning=row.meaning,
        advice=row.advice,
        retryable=row.is_retryable,
    )


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), headers=_HEADERS, media_type="application/json")


def _page(title: str, content: str) -> HTMLResponse:
    """A page that needs nothing else: no scripts, no other files."""
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} - Sensorium</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{content}
</body>
</html>
"""
    return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": _POLICY})


def _section(title: str, rows: Iterable[ErrorCode]) -> str:
    items = "\n".join(f'<dt id="{row.code}">{_link(row)}</dt><dd>{_text(row.meaning)}</dd>' for row in rows)
    return f"<h2>{title}</h2>\n<dl>\n{items}\n</dl>\n"


def _link(row: ErrorCode) -> str:
    status = "" if row.status is None else f" - {row.status}"
    return f'<a href="{type_of(row.code).removeprefix("/")}"><code>{row.code}</code></a>{status}'


def _facts(row: ErrorCode) -> str:
    again = "May succeed without a change." if row.is_retryable else "Fails again without a change."
    facts = {
        "Code": f"<code>{row.code}</code>",
        "Status": "" if row.status is None else str(row.status),
        "Meaning": _text(row.meaning),
        "What to do": _text(row.advice),
        "Another attempt": again,
        "Example": _text(row.example),
    }
    return "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items() if value)


def _text(text: str) -> str:
    """Text as HTML; `code` in backquotes."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text))
