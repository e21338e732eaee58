"""Where answers to generated requests may differ from what the OpenAPI document says, each with its reason.

`docs/decisions/0073-*` has them as a table; `test_schemathesis` compares both.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

# What Schemathesis expects by default, which `expected-statuses` replaces.
ACCEPTANCE = ("2xx", "3xx", "401", "403", "404", "409", "429", "5xx")


class Refusal(NamedTuple):
    """Requests that fit the document and are refused all the same. code: that of the faults, else of the problem."""

    operations: tuple[str, ...]
    status: int
    codes: tuple[str, ...]
    reason: str


class Disabled(NamedTuple):
    """A check that an operation does not hold."""

    operation: str
    checks: tuple[str, ...]
    reason: str


REFUSALS: tuple[Refusal, ...] = ()
DISABLED: tuple[Disabled, ...] = ()


def allowed_codes(operation: str, status: int) -> set[str]:
    """The codes with which an operation may refuse a request that fits the document."""
    found = (one.codes for one in REFUSALS if operation in one.operations and one.status == status)
    return {code for codes in found for code in codes}


def configuration(checks: Iterable[str]) -> str:
    """The content of `schemathesis.toml` with these checks."""
    return "\n".join(_lines(checks)) + "\n"


def _lines(checks: Iterable[str]) -> Iterator[str]:
    yield from ("[checks]", "enabled = false", *(f"{check}.enabled = true" for check in checks))
    statuses: dict[str, set[str]] = {}
    for refusal in REFUSALS:
        for operation in refusal.operations:
            statuses.setdefault(operation, set()).add(str(refusal.status))
    for operation, own in statuses.items():
        yield from ("[[operations]]", f'include-name = "{operation}"')
        yield f"checks.positive_data_acceptance.expected-statuses = {[*ACCEPTANCE, *sorted(own)]}"
    for disabled in DISABLED:
        yield from ("[[operations]]", f'include-name = "{disabled.operation}"')
        yield from (f"checks.{check}.enabled = false" for check in disabled.checks)
