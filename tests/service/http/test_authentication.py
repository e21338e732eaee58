"""Routes of FastAPI and of Starlette authenticate a request in the same way, before its body is read."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.app import create_app
from service.http.authentication import Authentication, Operation
from tests.conftest import Service
from tests.service.steps import fault, problem


async def _echo(request: Request) -> Response:
    return Response(await request.body())


ECHO = Operation.of("echo", "/v1/echo", ("POST",), ("inference",), _echo)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    """A client without a key, of the application with one more route of Starlette."""
    app = create_app(service.settings)
    middleware = [Middleware(Authentication, operation=ECHO)]
    app.router.routes.insert(0, Route(ECHO.path, _echo, methods=["POST"], middleware=middleware))
    with TestClient(app) as http:
        yield http


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/runs"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Bearer "}, "missing_api_key"),
        ({"Authorization": "Basic !"}, "missing_api_key"),
        ({"Authorization": "Bearer sns_none"}, "invalid_api_key"),
        ({"Authorization": "Basic eDp5"}, "invalid_api_key"),
    ],
)
def test_a_request_without_a_valid_key_is_refused(
    client: TestClient, path: str, headers: dict[str, str], code: str
) -> None:
    problem(client.post(path, content=b"{", headers=headers), 401, code)


def test_a_key_is_a_bearer_token_or_a_password(client: TestClient, service: Service) -> None:
    bearer = {"Authorization": f"Bearer {service.key}"}
    assert client.post("/v1/echo", content=b"x", headers=bearer).content == b"x"
    assert client.post("/v1/echo", content=b"x", auth=("any user", service.key)).content == b"x"


def test_a_starlette_route_refuses_query_parameters(client: TestClient, service: Service) -> None:
    answer = client.post("/v1/echo?a=1", headers={"Authorization": f"Bearer {service.key}"})
    assert fault(answer) == ("?a", "unknown_parameter")


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/runs/none/cancel"])
def test_a_wrong_method_is_refused_before_authentication(client: TestClient, path: str) -> None:
    answer = client.get(path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "tags", "scope"),
    [
        ("GET", ["runs"], "read"),
        ("POST", ["runs"], "write"),
        ("POST", ["inference"], "infer"),
        ("GET", ["administration"], "admin"),
    ],
)
def test_method_and_tags_decide_the_scope(method: str, tags: list[str], scope: str) -> None:
    assert Operation.of("x", "/v1/x", (method,), tags, _echo).needed == {method: scope}
