"""A check that Schemathesis loads: requests that fit the document are refused with listed codes only."""

import schemathesis
from schemathesis import Case, CheckContext, Response

from tests.contract import schemathesis_exceptions

# Schemathesis expects them for requests that fit: no schema says who calls, what exists and how much is stored.
_EXPECTED = {401, 403, 404, 405, 409, 429}


@schemathesis.check
def refusals_are_listed(ctx: CheckContext, response: Response, case: Case) -> None:
    """Fail for a code that is no exception of the operation: `positive_data_acceptance` looks at the status only."""
    status = response.status_code
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if not 400 <= status < 500 or status in _EXPECTED:
        return
    problem = response.json()
    codes = {fault["code"] for fault in problem["errors"]} or {problem["code"]}
    unlisted = codes - schemathesis_exceptions.allowed_codes(case.operation.label, status)
    assert not unlisted, f"a request that fits the document got {status} {sorted(unlisted)}: {problem['detail']}"
