"""Every error that the OpenAPI document lists for an operation is provoked, and answered with its status and code."""

import json
import sqlite3
from typing import Any

import pytest

from tests.contract.error_requests import LIMITED, NO_ROOM, SMALL_LIMITS, UNPROVOKED, WITHOUT_ROOM
from tests.contract.error_target import Answer, Target, target
from tests.contract.provoked import PROVOKED_ELSEWHERE, Case, answers_of_slow_requests, cases, provoker


def _fault(case: Case, answer: Answer) -> str | None:
    """What is wrong with an answer, or None."""
    status, headers, content = answer
    code = json.loads(content).get("code") if headers.get("content-type") == "application/problem+json" else None
    if (str(status), code) == (case.status, case.code):
        return None
    return f"{case.id}: {case.status} {case.code} is documented, {status} {code} came: {content[:150]!r}"


def _of(document: Any, *codes: str) -> list[Case]:
    found = [case for case in cases(document) if case.code in codes]
    assert found
    return found


def _faults(found: Target, wanted: list[Case]) -> list[str]:
    answers = [(case, ask(found, case)) for case in wanted if (ask := provoker(case)) is not None]
    return [fault for case, answer in answers if (fault := _fault(case, answer)) is not None]


@pytest.mark.slow
def test_errors_that_any_request_can_have_are_answered_as_documented(document: Any) -> None:
    with target(SMALL_LIMITS) as limited:
        faults = _faults(limited, list(cases(document)))
    assert faults == [], "\n".join(faults)


@pytest.mark.slow
def test_a_request_that_does_not_arrive_whole_is_answered_as_documented(document: Any) -> None:
    with target(SMALL_LIMITS) as limited:
        answers = answers_of_slow_requests(limited, _of(document, "request_timeout"))
    assert [fault for case, answer in answers if (fault := _fault(case, answer))] == []


@pytest.mark.slow
def test_calls_that_need_disk_space_are_refused_as_documented(document: Any) -> None:
    with target(NO_ROOM) as full:
        answers = [(case, full.ask(case.method, case.url(full))) for case in _of(document, "storage_full")]
    assert [fault for case, answer in answers if (fault := _fault(case, answer))] == []


@pytest.mark.slow
def test_a_database_without_a_table_is_answered_as_documented(document: Any) -> None:
    with target(SMALL_LIMITS) as broken:
        with sqlite3.connect(broken.database.removeprefix("sqlite:///")) as connection:
            connection.execute("ALTER TABLE api_keys RENAME TO gone")
        unknown = {"Authorization": "Bearer sns_0123456789ab_unknown", "Connection": "close"}
        answers = [
            (case, broken.ask(case.method, case.url(broken), headers=unknown))
            for case in _of(document, "internal_error")
        ]
    assert [fault for case, answer in answers if (fault := _fault(case, answer))] == []


def test_every_error_has_a_request_that_provokes_it_for_its_operation_or_for_another(document: Any) -> None:
    codes = {*PROVOKED_ELSEWHERE, *UNPROVOKED, *LIMITED, *WITHOUT_ROOM}
    lacking = [(case.id, case.code) for case in cases(document) if not (provoker(case) or case.code in codes)]
    assert lacking == [], "add a request to tests/contract/provoked.py"
