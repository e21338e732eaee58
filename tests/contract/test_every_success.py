"""Every success that the OpenAPI document lists for an operation is provoked there."""

from typing import Any

import pytest

from tests.contract.error_target import target
from tests.contract.provocations import successes
from tests.contract.provocations.case import successes as documented_successes
from tests.contract.provocations.comparison import LIMITED, fault


@pytest.mark.slow
def test_documented_successes_are_answered(document: Any) -> None:
    cases = sorted(documented_successes(document), key=successes.place)
    with target(LIMITED) as found:
        answers = [(case, successes.request_of(case)(found, case)) for case in cases]
    faults = [why for case, answer in answers if (why := fault(case, answer))]
    assert faults == [], "\n".join(faults)


def test_every_request_of_a_success_is_documented(document: Any) -> None:
    documented = {(case.id, case.status) for case in documented_successes(document)}
    assert successes.OTHERS.keys() <= documented
