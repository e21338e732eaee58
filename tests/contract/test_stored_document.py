"""The API changes only together with the stored OpenAPI document."""

import json
from pathlib import Path

from tests.contract.live import served_document
from tests.contract.store_document import COMMAND, STORED, canonical, differences


def test_the_served_document_equals_the_stored_one(tmp_path: Path) -> None:
    answer = served_document(tmp_path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = list(differences(json.loads(STORED.read_text(encoding="utf-8")), answer.json()))
    assert found == [], "\n".join([f"if the change is intended, run `{COMMAND}` and review the diff:", *found])


def test_the_stored_document_is_canonical() -> None:
    stored = STORED.read_text(encoding="utf-8")
    assert stored == canonical(json.loads(stored))


def test_every_difference_is_named_by_its_path() -> None:
    stored = {"a": {"b/c": [1, 2], "gone": True}, "same": [{}]}
    served = {"a": {"b/c": [1, 3], "new": None}, "same": [{}]}
    assert list(differences(stored, served)) == [
        "/a/b~1c/1: is 3, stored is 2",
        "/a/gone: is missing, stored is true",
        "/a/new: is new: null",
    ]
    assert list(differences([1], [1, 2])) == [": is [1, 2], stored is [1]"]
