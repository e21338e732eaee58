"""The secret key of two API processes is rotated: no token is refused meanwhile."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import bundles
from tests.conftest import wait_until
from tests.e2e.processes import answers, process, sensorium
from tests.e2e.stack import Caller
from tests.models.small import sequence_model
from tests.servers import free_port

pytestmark = pytest.mark.slow

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)
STEPS = {"old": OLD, "accept new": f"{OLD},{NEW}", "sign new": f"{NEW},{OLD}", "new": NEW}
ENCODE = "/v1/models/tracks/versions/1/encode"
UPLOADS = "/v1/uploads"


class Tokens(NamedTuple):
    """Tokens that one process has signed."""

    page: str
    state: str


@contextmanager
def _api(environment: dict[str, str], key: str, secret_key: str) -> Iterator[Caller]:
    own = {"SENSORIUM_SECRET_KEY": secret_key, "SENSORIUM_PORT": str(free_port())}
    with process(environment | own, "service.cli", "api"):
        caller = Caller(f"http://127.0.0.1:{own['SENSORIUM_PORT']}", key)
        wait_until(lambda: answers(caller), 60, "the API")
        yield caller


def _piece(state: str | None) -> dict[str, Any]:
    return {"inputs": {"audio": [[[0.1, 0.2, 0.3]]]}, "state": state}


def _signed_by(caller: Caller) -> Tokens:
    page = caller.call("GET", UPLOADS, params={"page_size": 1})["next_page_token"]
    return Tokens(page, caller.call("POST", ENCODE, json=_piece(None))["state"])


def _statuses(caller: Caller, tokens: Sequence[Tokens]) -> set[int]:
    """The status codes of requests with these tokens: the second page, and the second piece of a stream."""
    asked = [caller.http.get(UPLOADS, params={"page_size": 1, "page_token": each.page}) for each in tokens]
    asked += [caller.http.post(ENCODE, json=_piece(each.state)) for each in tokens]
    return {answer.status_code for answer in asked}


def test_no_token_is_refused_while_the_key_is_rotated(tmp_path: Path) -> None:
    environment = {**os.environ, "SENSORIUM_HOME": str(tmp_path / "home"), "SENSORIUM_LOG_LEVEL": "WARNING"}
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    tokens: list[Tokens] = []
    with ExitStack() as serving:
        before = serving.enter_context(_api(environment, key, STEPS["old"]))
        model = sequence_model()
        bundle = bundles.packed(bundles.weights(model), model)
        before.call("POST", "/v1/bundles", params={"name": "tracks"}, content=bundle)
        for row in (b'{"x": 1}\n', b'{"x": 2}\n'):
            before.call("POST", UPLOADS, content=row)
        for step in ("accept new", "sign new", "new"):
            with ExitStack() as ending:
                after = ending.enter_context(_api(environment, key, STEPS[step]))
                tokens += [_signed_by(before), _signed_by(after)]
                if step == "new":  # tokens of the old key have expired by then
                    tokens = tokens[-2:]
                assert {_statuses(each, tokens) == {200} for each in (before, after)} == {True}, step
                serving.pop_all().close()  # stop the previous process; this one continues
                serving.push(ending.pop_all())
                before = after
        assert _statuses(before, tokens) == {200}
