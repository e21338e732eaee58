"""Compares an answer with the response that the OpenAPI document lists."""

import json

from tests.contract.error_target import Answer
from tests.contract.provocations.case import PROBLEM, Case

LIMITED = {"SENSORIUM_PROJECT_REQUESTS_PER_MINUTE": "1000000"}
"""Settings with which responses have the header fields of a limit of requests."""
OF_EVERY_RESPONSE = {
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "server",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
    "x-request-id",
}
"""Header fields that the document does not repeat."""


def fault(case: Case, answer: Answer) -> str | None:
    """What is wrong with the status, code, media type or header fields of an answer, or None."""
    status, headers, content = answer
    media_type = headers.get("content-type", "").partition(";")[0]
    code = json.loads(content).get("code", "") if media_type == PROBLEM else ""
    if (str(status), code) != (case.status, case.code):
        expected = f"{case.status} {case.code}".strip()
        return f"{case.id}: {expected} is documented, {status} {code} came: {content[:150]!r}"
    documented = case.operation["responses"][case.status]
    if "content" in documented and media_type not in documented["content"]:
        return f"{case.id} {case.status}: {media_type} came, {sorted(documented['content'])} is documented"
    fields, came = {name.lower() for name in documented.get("headers", ())}, {name.lower() for name in headers}
    if unknown := came - fields - OF_EVERY_RESPONSE:
        return f"{case.id} {case.status} {case.code}: the document lacks the header fields {sorted(unknown)}"
    limit = {"ratelimit", "ratelimit-policy"} & fields
    if case.status < "300" and (lacking := limit - came):
        return f"{case.id} {case.status}: the answer lacks the header fields {sorted(lacking)}"
    return None
