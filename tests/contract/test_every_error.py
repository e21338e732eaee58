"""Every error that the OpenAPI document lists for an operation is provoked there, and has its status and code."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.provocations.case import errors
from tests.contract.provocations.comparison import fault
from tests.contract.provocations.servers import SERVERS, request_of, server_of


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_documented_errors_are_answered(document: Any, name: str) -> None:
    server, cases = SERVERS[name], [case for case in errors(document) if server_of(case) == name]
    with server.start() as target, ThreadPoolExecutor(server.at_once) as pool:
        answers = [*pool.map(lambda case: request_of(case)(target, case), cases)]
    faults = [why for case, answer in zip(cases, answers, strict=True) if (why := fault(case, answer))]
    assert faults == [], "\n".join(faults)


def test_every_documented_error_has_a_request_that_provokes_it(document: Any) -> None:
    lacking = [(case.id, case.code) for case in errors(document) if server_of(case) is None]
    assert lacking == [], "add a request to tests/contract/provocations"


def test_every_request_provokes_a_documented_error(document: Any) -> None:
    documented = {key for case in errors(document) for key in (case.code, (case.id, case.code))}
    unused = [(name, key) for name, server in SERVERS.items() for key in server.requests if key not in documented]
    assert unused == [], "the document lists these errors no more"
