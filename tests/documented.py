"""Every error that a test receives is in the stored OpenAPI document: its operation, status and code."""

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
    """Raise AssertionError for an error that the document does not list. A hook of a client."""
    if response.status_code < 400 or response.headers.get("content-type") != PROBLEM:
        return
    operation = operation_of(response.request.method, response.request.url.path)
    if operation is None:
        return
    code = json.loads(response.read())["code"]
    documented = codes_of(operation, str(response.status_code))
    assert code in documented, (
        f"{operation['operationId']} answers {response.status_code} {code}, and the document lists only"
        f" {sorted(documented)}: add it to `responses=errors(...)` of the route"
    )
