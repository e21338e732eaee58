"""The table of error codes is that of the source, of the stored responses, and of the proxy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.http.error_codes import FAULTS, JOB_ERRORS, PROBLEMS
from service.http.error_responses import errors
from tests.contract.error_codes import NEVER_SENT, codes
from tests.contract.store_errors import STORED

PROXY = Path(__file__).parents[2] / "deploy" / "proxy" / "locations.conf"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "errors.md"
OF_THE_PROXY = {"service_unavailable"}


def _stored() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(STORED.glob("*.json"))}


def test_the_table_has_exactly_the_codes_of_the_source() -> None:
    found = {code: sorted(files) for code, files in codes().items() if code not in NEVER_SENT}
    missing = {code: files for code, files in found.items() if code not in PROBLEMS}
    assert missing == {}, "add a row to service/http/error_codes.py"
    assert PROBLEMS.keys() - found.keys() == OF_THE_PROXY, "no source has these codes any more"


def test_a_row_is_whole_and_no_code_has_two_meanings() -> None:
    for row in (*PROBLEMS.values(), *JOB_ERRORS.values(), *FAULTS.values()):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.code)
        assert row.title[0].isupper(), row.code
        assert row.meaning.endswith("."), row.code
        assert row.advice.endswith("."), row.code
    assert [row.code for row in PROBLEMS.values() if row.status is None or not row.example] == []
    assert len({*PROBLEMS, *JOB_ERRORS, *FAULTS}) == len(PROBLEMS) + len(JOB_ERRORS) + len(FAULTS)
    statuses = [row.status for row in PROBLEMS.values() if row.status is not None]
    assert statuses == sorted(statuses)


@pytest.mark.parametrize(("name", "answer"), _stored().items(), ids=_stored().keys())
def test_a_stored_answer_has_the_status_type_and_title_of_the_table(name: str, answer: Any) -> None:
    row, body = PROBLEMS[answer["body"]["code"]], answer["body"]
    assert (answer["status"], body["status"]) == (row.status, row.status)
    assert (body["type"], body["title"]) == (f"/errors/{row.code}", row.title)
    if name == row.code:  # other stored answers are special cases
        assert body["detail"] == row.example
        assert [fault["pointer"] for fault in body["errors"]][:1] == ([] if row.pointer is None else [row.pointer])


def test_the_proxy_answers_with_the_table() -> None:
    bodies = [json.loads(text.replace("\\'", "'")) for text in re.findall(r"return \d+ '(\{.*\})';", PROXY.read_text())]
    assert len(bodies) == 5
    for body in bodies:
        row = PROBLEMS[body["code"]]
        assert (body["type"], body["title"], body["status"]) == (f"/errors/{row.code}", row.title, row.status)


def test_a_route_that_declares_an_unknown_code_does_not_start() -> None:
    assert errors("run_not_found", "run_has_not_ended").keys() == {404, 409}
    with pytest.raises(KeyError):
        errors("run_is_lost")


def test_the_documentation_repeats_the_table() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    lines = [
        f"| {row.status} | `{row.code}` | {row.meaning} | {'yes' if row.is_retryable else 'no'} |"
        for row in PROBLEMS.values()
    ]
    documented = re.findall(r"^\| \d{3} \| .*$", text, re.MULTILINE)
    assert documented == lines, "copy the rows of service/http/error_codes.py"
    _, _, values = text.partition("## Codes of values")
    values, _, jobs = values.partition("## Errors of jobs")
    assert _first_cells(values) == FAULTS.keys()
    assert JOB_ERRORS.keys() <= _first_cells(jobs) <= JOB_ERRORS.keys() | PROBLEMS.keys()


def _first_cells(section: str) -> set[str]:
    """The codes in the first column of the tables of a section."""
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {code for cell in cells for code in re.findall("`([a-z_]+)`", cell)} - {"code"}
