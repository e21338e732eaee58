"""Every operation refuses query parameters that it does not have."""

from typing import Annotated

import pytest
from fastapi import Query
from pydantic import Field

from service.http import query_parameters
from service.http.query_parameters import QueryModel, TimedPageQuery
from service.shared.errors import BadInput, Fault
from tests.conftest import Service
from tests.service.steps import fault, problem


class Filters(QueryModel):
    """Two parameters."""

    tag: Annotated[list[str], Field(max_length=2)] = []  # noqa: RUF012 Pydantic copies it
    page: int = 1


def refused(query_string: bytes, model: type[QueryModel] | None) -> list[Fault]:
    with pytest.raises(BadInput) as error:
        query_parameters.check(query_string, model)
    return list(error.value.faults)


def test_the_model_of_an_endpoint_is_found_in_its_signature() -> None:
    def with_model(name: str, query: Annotated[Filters, Query()]) -> None: ...

    def without(name: str) -> None: ...

    assert query_parameters.model_of(with_model) is Filters
    assert query_parameters.model_of(without) is None


def test_an_operation_without_parameters_refuses_all() -> None:
    faults = refused(b"b=1&a=&b=2", None)
    assert [(one.pointer, one.code) for one in faults] == [("?b", "unknown_parameter"), ("?a", "unknown_parameter")]
    assert faults[0].detail == "there is no parameter 'b', only []"


def test_many_and_long_names_are_shown_shortened() -> None:
    names = b"&".join(b"%d%s=1" % (number, b"x" * 500) for number in range(1000))
    faults = refused(names, None)
    assert len(faults) == query_parameters.MAX_FAULTS
    assert max(len(one.detail) for one in faults) < 200


def test_a_repeated_single_value_is_refused_and_a_list_is_accepted() -> None:
    assert refused(b"page=1&page=1", Filters) == [
        Fault("?page", "repeated_parameter", "page is given 2 times, expected once")
    ]
    query_parameters.check(b"tag=a&tag=b&page=1", Filters)


@pytest.mark.parametrize(
    ("path", "place", "code"),
    [
        ("/v1/runs?stat=failed", "?stat", "unknown_parameter"),
        ("/v1/runs/none?page_size=1", "?page_size", "unknown_parameter"),
        ("/v2/models/none?x=1", "?x", "unknown_parameter"),
        ("/v1/runs?tag=a%00b", "?tag", "zero_character"),
        ("/v1/projects?page_token=%00", "?page_token", "zero_character"),
        ("/v1/projects?page_size=0", "?page_size", "out_of_range"),
        (f"/v1/projects?page_size={query_parameters.MAX_PAGE_SIZE + 1}", "?page_size", "out_of_range"),
    ],
)
def test_a_bad_parameter_is_refused_with_its_place(service: Service, path: str, place: str, code: str) -> None:
    assert fault(service.http.get(path)) == (place, code)


def test_an_unknown_parameter_is_answered_with_the_known_ones(service: Service) -> None:
    known = sorted(TimedPageQuery.model_fields)
    answer = service.http.get("/v1/api-keys?pagesize=1")
    assert answer.json()["errors"] == [
        {
            "pointer": "?pagesize",
            "code": "unknown_parameter",
            "detail": f"there is no parameter 'pagesize', only {known}",
        }
    ]


def test_every_operation_behind_a_key_refuses_unknown_parameters(service: Service) -> None:
    document = service.http.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "security" in operation:
                path = path.replace("{version}", "1").replace("{step}", "1")
                answer = service.http.request(method, f"{path.replace('{', '').replace('}', '')}?unknown=1")
                faults = {(one["pointer"], one["code"]) for one in problem(answer, 422)["errors"]}
                assert ("?unknown", "unknown_parameter") in faults, (method, path)
                asked += 1
    assert asked > 50
