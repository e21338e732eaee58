"""Private and version-bound behaviour of libraries that the code uses: what it is, and that its versions are capped.

To raise a cap: install the new version, run the tests, and read the places that are named here (decision 62).
"""

import inspect
import json
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httptools
import kombu
import pytest
import sqlalchemy
import uvicorn
from packaging.requirements import Requirement
from sqlalchemy.exc import OperationalError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.http.protocol import BoundedProtocol
from service.http.server import Server
from service.shared.database_errors import lacks_schema

ROOT = Path(__file__).parent.parent


class Use(NamedTuple):
    """What a file uses of a library that another minor version may change."""

    library: str
    file: str
    reason: str


USES = (
    Use("uvicorn", "service/http/protocol.py", "overrides methods of HttpToolsProtocol: it has no time limits"),
    Use("uvicorn", "service/http/server.py", "overrides Server.shutdown: it loses the listen backlog"),
    Use("httptools", "service/http/protocol.py", "gives trailers to `on_header`, and the body behind an upgrade away"),
    Use("fastapi", "service/http/authentication.py", "minor versions of 0.x may break any API, by its own rules"),
    Use("fastapi", "service/http/upload_body.py", "`contextmanager_in_threadpool` is not in the reference"),
    Use("fastapi", "service/runs/routes.py", "`format_sse_event` and KEEPALIVE_COMMENT are not in the reference"),
    Use("starlette", "service/http/problems.py", "`Route.matches` and `Match` are not in the documentation"),
    Use("kombu", "service/shared/folder_broker.py", "overrides `_put` and `_get` of the filesystem transport"),
    Use("celery", "worker/celery_consumer.py", "imports a message text of the consumer and knows its loggers"),
    Use("redis", "service/shared/broker.py", "the set with celery and kombu that survives a lost broker"),
    Use("obstore", "service/shared/s3.py", "knows a full bucket by the text of the error"),
    Use("safetensors", "service/shared/full_disk.py", "knows a full disk by the text of the error"),
    Use("torch", "models/ops/dense.py", "reads hooks, children and parameters of modules where torch keeps them"),
    Use("torch", "models/ops/posterior.py", "reads `Tensor._version`, the count of in-place changes of a weight"),
)


def _requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parsed = [Requirement(one) for one in project["dependencies"]]
    return {one.name: one for one in parsed}


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.library}-{Path(use.file).stem}")
def test_a_library_with_version_bound_use_is_capped(use: Use) -> None:
    requirement = _requirements()[use.library]
    operators = {one.operator for one in requirement.specifier}
    assert operators & {"<", "=="}, f"cap {use.library} in pyproject.toml: {use.file} {use.reason}"
    assert requirement.specifier.contains(version(use.library).partition("+")[0])
    assert use.library in (ROOT / use.file).read_text(), f"{use.file} has no use of {use.library}: remove its line here"


@pytest.mark.parametrize(("ours", "theirs"), [(BoundedProtocol, HttpToolsProtocol), (Server, uvicorn.Server)])
def test_overridden_methods_of_uvicorn_keep_their_signatures(ours: type, theirs: type) -> None:
    overridden = [name for name, value in vars(ours).items() if inspect.isfunction(value) and hasattr(theirs, name)]
    assert len(overridden) >= 2
    for name in set(overridden) - {"__init__"}:
        expected, found = (list(inspect.signature(getattr(one, name)).parameters) for one in (theirs, ours))
        assert found == expected, name


def test_uvicorn_has_the_attributes_that_the_protocol_and_the_server_use() -> None:
    config = uvicorn.Config(lambda: None, log_config=None)  # type: ignore[arg-type, misc]
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {}, _loop=object())  # type: ignore[arg-type]
    for name in ("loop", "transport", "flow", "parser", "pipeline", "cycle", "scope", "headers"):
        assert hasattr(protocol, name), name
    code = RequestResponseCycle.__init__.__code__.co_names
    for name in ("keep_alive", "waiting_for_100_continue", "response_started", "response_complete"):
        assert name in code, name
    server = uvicorn.Server(config)
    assert isinstance(server.server_state, ServerState)
    assert inspect.signature(Server.shutdown).parameters.keys() == {"self", "sockets"}
    assert config.http_protocol_class is not None


def test_uvicorn_has_no_time_limits_of_its_own() -> None:
    """If it gets them, BoundedProtocol has to shrink."""
    timeouts = {name for name in inspect.signature(uvicorn.Config).parameters if "timeout" in name}
    assert timeouts == {
        "ws_ping_timeout",
        "timeout_keep_alive",  # between requests
        "timeout_notify",
        "timeout_graceful_shutdown",
        "timeout_worker_healthcheck",
    }


def test_httptools_gives_trailers_to_the_callback_of_headers() -> None:
    """If it stops that, BoundedProtocol.on_header can go."""

    class Recorder:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def on_header(self, name: bytes, value: bytes) -> None:
            self.calls.append(name)

        def on_headers_complete(self) -> None:
            self.calls.append("complete")

    recorder = Recorder()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    httptools.HttpRequestParser(recorder).feed_data(head + b"1\r\na\r\n0\r\nX-Trailer: y\r\n\r\n")
    assert recorder.calls == [b"Host", b"Transfer-Encoding", "complete", b"X-Trailer"]


def test_kombus_own_transport_fails_on_half_a_message(tmp_path: Path) -> None:
    """A worker ends with that error. If kombu writes messages in one step, `service.shared.folder_broker` can go."""
    folders = {f"data_folder_{way}": str(tmp_path) for way in ("in", "out")}
    options = {**folders, "control_folder": str(tmp_path / "control")}
    with kombu.Connection("filesystem://localhost", transport_options=options) as connection:
        queue = connection.SimpleQueue("q")
        queue.put({"job": "j"})
        (message,) = tmp_path.glob("*.q.msg")
        message.write_text(message.read_text()[:20])
        with pytest.raises(json.JSONDecodeError):
            queue.get(timeout=1)
        queue.close()


@pytest.mark.parametrize("statement", ["SELECT 1 FROM none", "SELECT none FROM sqlite_master"])
def test_sqlite_names_missing_tables_and_columns_as_expected(statement: str) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(OperationalError) as error:
        connection.execute(sqlalchemy.text(statement))
    assert lacks_schema(error.value)
