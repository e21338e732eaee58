"""Every response that a test receives is in the stored OpenAPI document: its operation, status and error code."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import httpx2 as httpx

STORED = Path(__file__).parent / "fixtures" / "api" / "openapi.json"
PROBLEM = "application/problem+json"


@cache
def _paths() -> dict[tuple[str, ...], dict[str, Any]]:
    """The operations of each path, by its segments; a parameter is the segment ''."""
    document = json.loads(STORED.read_text(encoding="utf-8"))
    return {
        tuple("" if "{" in segment else segment for segment in path.split("/")): operations
        for path, operations in document["paths"].items()
    }


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The operation of a request; literal segments win over parameters. None if the document has none."""
    wanted = path.split("/")
    matching = [
        (segments.count(""), operations)
        for segments, operations in _paths().items()
        if len(segments) == len(wanted) and all(own in ("", given) for own, given in zip(segments, wanted, strict=True))
    ]
    if not matching:
        return None
    found: dict[str, Any] | None = min(matching, key=lambda each: each[0])[1].get(method.lower())
    return found


def codes_of(operation: dict[str, Any], status: str) -> set[str]:
    """The codes that the document lists for a status of an operation."""
    content = operation["responses"].get(status, {}).get("content", {})
    return set(content.get(PROBLEM, {}).get("examples", ()))


def check(response: httpx.Response) -> None:
    """Raise AssertionError for a response that the document does not list. A hook of a client."""
    operation = operation_of(response.request.method, response.request.url.path)
    if operation is None:
        return
    name, status = operation["operationId"], str(response.status_code)
    if response.is_success:
        assert status in operation["responses"], f"{name} answers {status}, which the document does not list"
        return
    if response.headers.get("content-type") != PROBLEM:
        return
    code, documented = json.loads(response.read())["code"], codes_of(operation, status)
    assert code in documented, (
        f"{name} answers {status} {code}, and the document lists only {sorted(documented)}: add it to"
        " `responses=errors(...)` of the route"
    )
