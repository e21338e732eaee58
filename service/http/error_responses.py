"""The error responses of the OpenAPI document: `responses=errors("run_not_found")` at a route, and the common ones."""

from collections.abc import Iterable, Mapping
from typing import Any

from service.access.scopes import IDENTITY
from service.access.scopes import INFERENCE as INFERENCE_TAG
from service.http.error_codes import PROBLEMS, ErrorCode, type_of
from service.http.header_fields import LIMIT, fields

CODES = "x-codes"
"""Where a response that a route declares has its codes, until `complete` describes it."""
OF_ANY_REQUEST = (
    "headers_too_large",
    "invalid_host",
    "invalid_http",
    "request_timeout",
    "unsupported_content_encoding",
    "unsupported_transfer_encoding",
)
"""The request does not reach its route."""
OF_ANY_CALLER = (
    "database_unavailable",
    "insufficient_scope",
    "internal_error",
    "invalid_api_key",
    "invalid_input",
    "missing_api_key",
    "rate_limited",
)
OF_JSON_BODIES = ("body_too_large", "not_json", "trailers_too_large", "unsupported_media_type", "upgrade_not_offered")
OF_FILES = ("trailers_too_large", "upgrade_not_offered")
NOT_COUNTED = {*OF_ANY_REQUEST, *OF_FILES, "internal_error", "invalid_api_key", "missing_api_key"}
"""The request is not counted for the limit of its project, or the response has no header field that tells so."""
STORED_FILE = ("artifact_corrupt", "storage_full", "storage_unavailable")
"""What a route that reads a stored file declares. A copy of a file in a bucket needs space on the disk."""
DOWNLOAD = (*STORED_FILE, "range_not_satisfiable")
"""What a route that sends a stored file declares."""
INFERENCE = (
    *STORED_FILE,
    "body_not_read",
    "engine_busy",
    "engine_out_of_memory",
    "inference_unavailable",
    "timed_out",
    "too_many_rows",
)
"""What a route that asks a model declares."""


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: the errors that not every route has. Raises KeyError for an unknown code."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status = PROBLEMS[code].status
        assert status is not None  # noqa: S101 each problem has one
        by_status.setdefault(status, {"description": "", CODES: []})[CODES].append(code)
    return by_status


def complete(operation: dict[str, Any], is_keyed: bool, writes: bool) -> None:
    """Describe the error responses of an operation: those that its route declares, and the common ones.

    is_keyed: whether callers need an API key. writes: whether it writes to the database, which may be full.
    """
    responses: dict[str, Any] = operation["responses"]
    if CODES not in responses.get("422", {CODES: []}):
        del responses["422"]  # FastAPI adds it to every operation with parameters
    declared = {code for response in responses.values() for code in response.pop(CODES, ())}
    codes = declared.union(OF_ANY_REQUEST)
    if is_keyed:
        codes.update(OF_ANY_CALLER, _of_parameters(operation), _of_body(operation))
    if writes:
        codes.add("storage_full")
    if IDENTITY in operation.get("tags", ()):
        codes.discard("insufficient_scope")
    if INFERENCE_TAG in operation.get("tags", ()) or operation["operationId"].startswith("v2_"):
        # these routes read JSON themselves, whatever its media type
        codes -= {"not_json", "unsupported_media_type"} - declared
    by_status: dict[int, list[ErrorCode]] = {}
    for code in sorted(codes):
        row = PROBLEMS[code]
        by_status.setdefault(row.status or 0, []).append(row)
    undescribed = {status for status in responses if int(status) >= 400} - {str(status) for status in by_status}
    assert not undescribed, (operation["operationId"], undescribed)  # noqa: S101 declare it by `errors`
    described = {str(status): _response(rows) for status, rows in by_status.items()}
    if is_keyed:
        for code in codes - (NOT_COUNTED - declared):
            described[str(PROBLEMS[code].status)].update(fields(*LIMIT))
    operation["responses"] = dict(sorted((responses | described).items()))


def examples() -> dict[str, Any]:
    """`components/examples`: one problem per code."""
    return {code: {"summary": row.title, "value": _example(row)} for code, row in PROBLEMS.items()}


def _of_parameters(operation: Mapping[str, Any]) -> Iterable[str]:
    """The errors of the parameters that several operations have."""
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "page_token" in names:
        yield "invalid_page_token"
    if "Idempotency-Key" in names:
        yield "idempotency_key_reused"


def _of_body(operation: Mapping[str, Any]) -> Iterable[str]:
    """The errors of a body."""
    if "requestBody" not in operation:
        return ()
    return OF_JSON_BODIES if "application/json" in operation["requestBody"]["content"] else OF_FILES


def _response(rows: Iterable[ErrorCode]) -> dict[str, Any]:
    rows = list(rows)
    return {
        "description": "\n".join(f"- `{row.code}`: {row.meaning}" for row in rows),
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {row.code: {"$ref": f"#/components/examples/{row.code}"} for row in rows},
            }
        },
    }


def _example(row: ErrorCode) -> dict[str, Any]:
    fault_code = {"invalid_input": "out_of_range", "dataset_in_use": "used_by", "version_in_use": "alias"}
    detail = row.example.partition(" (and ")[0]
    fault = {"pointer": row.pointer, "code": fault_code.get(row.code, row.code), "detail": detail}
    return {
        "type": type_of(row.code),
        "title": row.title,
        "status": row.status,
        "detail": row.example,
        "code": row.code,
        "request_id": "req_0188c2f0a5d1",
        "errors": [] if row.pointer is None else [fault],
    }
