"""Every error code has a stored response, which the served response must equal."""

import json

import pytest

from tests.contract.error_codes import codes
from tests.contract.error_requests import LIMITED, NOT_STORED, WITHOUT_ROOM
from tests.contract.store_document import differences
from tests.contract.store_errors import COMMAND, STORED, answers, canonical


def test_every_code_of_the_source_has_a_stored_answer_or_a_reason_why_not() -> None:
    stored = {path.stem.partition("--")[0] for path in STORED.glob("*.json")}
    unknown = {code: sorted(files) for code, files in codes().items() if code not in stored | NOT_STORED.keys()}
    assert unknown == {}, f"add a request to tests/contract/error_requests.py and run `{COMMAND}`"
    assert not (stored | NOT_STORED.keys()) - codes().keys(), "no source has these codes any more"
    assert not stored & NOT_STORED.keys()


def test_every_request_has_a_stored_answer_with_its_code() -> None:
    bodies = {path.stem: json.loads(path.read_text(encoding="utf-8"))["body"] for path in STORED.glob("*.json")}
    assert bodies.keys() == {*LIMITED, *WITHOUT_ROOM}
    assert {name: body["code"] for name, body in bodies.items()} == {name: name.partition("--")[0] for name in bodies}


@pytest.mark.slow
def test_requests_that_fail_are_answered_as_stored() -> None:
    found = []
    for name, answer in answers().items():
        stored = (STORED / f"{name}.json").read_text(encoding="utf-8")
        assert stored == canonical(json.loads(stored))
        found += differences(json.loads(stored), answer, name)
    assert found == [], "\n".join([f"if the change is intended, run `{COMMAND}` and review the diff:", *found])
