"""No path of the API shadows a resource: a literal segment never equals a name that a user may choose."""

import re
from collections.abc import Iterator
from typing import Any

from service.shared.resource_names import NAME_PATTERN
from tests.contract.conftest import Document

PARAMETER = re.compile(r"^\{.*\}$")
ID = re.compile(r"^\{(run|upload|key|event|project)_id\}$")
"""Ids begin with their prefix and an underscore, such as `run_`; no literal segment does."""
ID_PREFIX = re.compile(r"^[a-z]{3}_")
RESERVED = {
    "/v2/models/stats": "the statistics extension of the Open Inference Protocol defines it",
}
"""Paths that shadow a name although a user may choose it, and why."""


def _siblings(document: Document) -> Iterator[tuple[str, str, str]]:
    """A path, its literal segment, and the parameter that another path has in its place."""
    paths = [path.split("/") for path in document["paths"]]
    for path in paths:
        for at, segment in enumerate(path):
            if PARAMETER.match(segment):
                continue
            for other in paths:
                if len(other) > at and other[:at] == path[:at] and PARAMETER.match(other[at]):
                    yield "/".join(path), segment, other[at]


def _may_be_named(segment: str, parameter: str) -> bool:
    if ID.match(parameter):
        return ID_PREFIX.match(segment) is not None
    return re.match(NAME_PATTERN, segment) is not None


def test_no_literal_segment_equals_a_name_in_its_place(document: Document) -> None:
    shadowing = {path for path, segment, parameter in _siblings(document) if _may_be_named(segment, parameter)}
    assert shadowing == set(RESERVED)


def test_a_shadowing_path_would_be_found() -> None:
    paths: dict[str, Any] = {"/v1/models/{name}": {}, "/v1/models/import": {}, "/v1/models/{name}/versions": {}}
    found = {path for path, segment, parameter in _siblings({"paths": paths}) if _may_be_named(segment, parameter)}
    assert found == {"/v1/models/import"}
    assert not _may_be_named("compare", "{run_id}")
    assert _may_be_named("run_x", "{run_id}")
