"""An operation of the OpenAPI document with one of its responses."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.contract.error_target import Answer, Target

PROBLEM = "application/problem+json"
JSON = {"Content-Type": "application/json"}


class Case(NamedTuple):
    """An operation, and one of its responses. code: of an error; empty for a success."""

    id: str
    method: str
    path: str
    operation: Any
    status: str
    code: str

    def url(self, target: Target, **parts: str) -> str:
        """The path with the names of resources of the dump, or the given ones."""
        known = {
            "run_id": target.known["paused"],
            "name": "small",
            "version": "1",
            "alias": "live",
            "step": "1",
            "upload_id": "upl_1",
            "key_id": "key_1",
            "project_id": "prj_1",
            "code": "not_found",
        }
        return self.path.format(**{**known, **parts})


Provoke = Callable[[Target, Case], Answer]
"""Sends the request of a case; others before it, where it needs them."""


def errors(document: Any) -> Iterator[Case]:
    """Every error of the document."""
    for case, response in _responses(document):
        for code in response.get("content", {}).get(PROBLEM, {}).get("examples", ()):
            yield case._replace(code=code)


def successes(document: Any) -> Iterator[Case]:
    """Every response of the document that is no error."""
    return (case for case, _ in _responses(document) if case.status < "400")


def _responses(document: Any) -> Iterator[tuple[Case, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                yield Case(operation["operationId"], method.upper(), path, operation, status, ""), response


def ask(**request: Any) -> Provoke:
    """A request with these arguments of httpx."""
    return lambda target, case: target.ask(case.method, case.url(target), **request)


def ask_about(query: str = "", **parts: str) -> Provoke:
    """A request about other resources; `{failed}` is the run of the dump in that state."""

    def provoke(target: Target, case: Case) -> Answer:
        runs = {name: value for name, value in target.known.items() if isinstance(value, str)}
        named = {part: value.format(**runs) for part, value in parts.items()}
        return target.ask(case.method, f"{case.url(target, **named)}{query.format(**runs)}")

    return provoke
