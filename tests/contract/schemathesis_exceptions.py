"""Where answers to generated requests may differ from what the OpenAPI document says, each with its reason.

`docs/decisions/0073-*` has them as a table; `test_schemathesis` compares both.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

# What Schemathesis expects by default, which `expected-statuses` replaces.
ACCEPTANCE = ("2xx", "3xx", "401", "403", "404", "409", "429", "5xx")
NO_ERROR = ("2xx", "3xx", "4xx")


class Refusal(NamedTuple):
    """Requests that fit the document and are refused all the same. codes: of the faults, else of the problem."""

    operations: tuple[str, ...]
    status: int
    codes: tuple[str, ...]
    reason: str


class ServerError(NamedTuple):
    """A status from 500 on that a request can ask for."""

    operations: tuple[str, ...]
    status: int
    reason: str


class Disabled(NamedTuple):
    """A check that an operation does not hold."""

    operation: str
    checks: tuple[str, ...]
    reason: str


LISTS = (
    "GET /v1/api-keys",
    "GET /v1/audit-events",
    "GET /v1/datasets",
    "GET /v1/datasets/{name}/versions",
    "GET /v1/events",
    "GET /v1/models",
    "GET /v1/models/{name}/aliases",
    "GET /v1/models/{name}/versions",
    "GET /v1/projects",
    "GET /v1/runs",
    "GET /v1/runs/{run_id}/checkpoints",
    "GET /v1/runs/{run_id}/events",
    "GET /v1/uploads",
    "GET /v1/workers",
)
IDEMPOTENT = (
    "POST /v1/api-keys",
    "POST /v1/bundles",
    "POST /v1/datasets",
    "POST /v1/models/{name}/versions",
    "POST /v1/projects",
    "POST /v1/runs",
    "POST /v1/runs/{run_id}/retry",
    "POST /v1/uploads",
)
OF_VERSIONS = tuple(
    f"POST /v1/models/{{name}}/{path}/{operation}"
    for path in ("versions/{version}", "aliases/{alias}")
    for operation in ("encode", "reconstruct", "impute", "score", "forecast", "sample")
)
REFUSALS = (
    Refusal(LISTS, 400, ("invalid_page_token",), "a page token is signed by the service for one list"),
    Refusal(IDEMPOTENT, 422, ("idempotency_key_reused",), "an idempotency key is for one request"),
    Refusal(
        ("POST /v1/uploads",),
        422,
        ("unknown_format", "not_an_array", "empty_file"),
        "the content of a file decides; a schema says only that it is binary",
    ),
    Refusal(
        ("POST /v1/bundles",),
        422,
        ("not_a_bundle", "empty_file"),
        "the content of a file decides; a schema says only that it is binary",
    ),
    Refusal(
        ("POST /v1/datasets",),
        422,
        ("invalid_value",),
        "conditions between fields: a column with two roles, a likelihood of another dtype, fractions above 1",
    ),
    Refusal(
        ("POST /v1/runs",),
        422,
        ("invalid_value", "misfit"),
        "names of installed experts, fusions and networks, conditions between fields, modalities of the dataset",
    ),
    Refusal(
        ("GET /v1/runs", "POST /v1/runs/cancel"),
        422,
        ("unknown_metric",),
        "the runs of the project have the names of metrics",
    ),
    Refusal(("POST /v1/runs/cancel",), 422, ("all_with_filters", "no_filter"), "either filters or `all`, not both"),
    Refusal(
        ("PUT /v1/models/{name}/aliases/{alias}", "DELETE /v1/models/{name}/aliases/{alias}"),
        412,
        ("alias_exists", "alias_missing", "revision_mismatch"),
        "`If-Match` and `If-None-Match` compare with the present state",
    ),
    Refusal(
        ("POST /v2/models/{name}/infer", "POST /v2/models/{name}/versions/{version}/infer"),
        422,
        ("bad_length", "not_json", "bad_binary_size", "unknown_output", "duplicate_output", "bad_outputs"),
        "`Inference-Header-Content-Length` splits the body, and the model has the names of the outputs",
    ),
)
SERVER_ERRORS = (ServerError(OF_VERSIONS, 504, "a short `timeout_seconds` asks for it"),)
DISABLED = (
    Disabled(
        "GET /v1/runs/compare",
        ("unsupported_method", "allow_header_conformance"),
        "`/v1/runs/{run_id}` matches the path, too, and has these methods; no id has this form",
    ),
    Disabled(
        "POST /v1/runs/cancel",
        ("unsupported_method", "allow_header_conformance"),
        "`/v1/runs/{run_id}` matches the path, too, and has these methods; no id has this form",
    ),
)


def operations() -> set[str]:
    """The operations that have exceptions."""
    several = (*REFUSALS, *SERVER_ERRORS)
    return {operation for one in several for operation in one.operations} | {one.operation for one in DISABLED}


def table() -> str:
    """The exceptions as a table in Markdown."""
    rows = [("operations", "exception", "reason"), ("---",) * 3]
    rows += [(_code(*one.operations), f"{one.status} {_code(*one.codes)}", one.reason) for one in REFUSALS]
    rows += [(_code(*one.operations), str(one.status), one.reason) for one in SERVER_ERRORS]
    rows += [(_code(one.operation), f"without {_code(*one.checks)}", one.reason) for one in DISABLED]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _code(*names: str) -> str:
    return ", ".join(f"`{name}`" for name in names)


def allowed_codes(operation: str, status: int) -> set[str]:
    """The codes with which an operation may refuse a request that fits the document."""
    found = (one.codes for one in REFUSALS if operation in one.operations and one.status == status)
    return {code for codes in found for code in codes}


def configuration(checks: Iterable[str]) -> str:
    """The content of `schemathesis.toml` with these checks."""
    return "\n".join(_lines(checks)) + "\n"


def _lines(checks: Iterable[str]) -> Iterator[str]:
    yield from ("[checks]", "enabled = false", *(f"{check}.enabled = true" for check in checks))
    for operation in sorted(operations()):
        yield from ("[[operations]]", f'include-name = "{operation}"')
        accepted = sorted({str(one.status) for one in REFUSALS if operation in one.operations})
        if accepted:
            yield f"checks.positive_data_acceptance.expected-statuses = {[*ACCEPTANCE, *accepted]}"
        failing = sorted({str(one.status) for one in SERVER_ERRORS if operation in one.operations})
        if failing:
            yield f"checks.not_a_server_error.expected-statuses = {[*NO_ERROR, *failing]}"
        disabled = [check for one in DISABLED if operation == one.operation for check in one.checks]
        yield from (f"checks.{check}.enabled = false" for check in disabled)
