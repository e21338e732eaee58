"""A running API over the upgrade fixture's SQLite dump, and the constant parts of its responses."""

import json
import re
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.stack import Caller
from tests.fixtures.upgrade.installation import STILL, Body, Installation, load, stored, unpack

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 120

Answer = tuple[int, Mapping[str, str], bytes]
ID = re.compile(r"\b([a-z]{3})_[0-9A-HJKMNP-TV-Z]{26}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")
UNSTABLE_HEADERS = ("date", "x-request-id", "content-length")


class Target(NamedTuple):
    """A running API over the dump, clients with keys, and the ids of resources in the dump."""

    caller: Caller
    reader: Caller
    stranger: Caller
    known: Body
    home: Path
    database: str
    pid: int

    def ask(self, method: str, path: str, caller: Caller | None = None, **request: Any) -> Answer:
        """Send a request; with the operator's key unless another caller is named."""
        answer = (caller or self.caller).http.request(method, path, **request)
        return answer.status_code, answer.headers, answer.content

    def tenant(self, name: str, **quotas: int) -> Caller:
        """A client of a new project."""
        body = {"name": name, "quotas": quotas}
        return Caller(str(self.caller.http.base_url), self.caller.call("POST", "/v1/projects", json=body)["token"])

    def execute(self, *statements: str) -> None:
        """Change the database behind the back of the API."""
        with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"))) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def raw(self, *pieces: bytes) -> Answer:
        """Send bytes over a new connection, and read the response."""
        url = self.caller.http.base_url
        with socket.create_connection((url.host, url.port or 80), timeout=ANSWER_SECONDS) as client:
            for piece in pieces:
                client.sendall(piece)
            return read(client)


def read(client: socket.socket) -> Answer:
    """The answer that comes over a connection."""
    answer = HTTPResponse(client)
    answer.begin()
    return answer.status, dict(answer.getheaders()), answer.read()


@contextmanager
def target(
    settings: Mapping[str, str], database: str | None = None, home: Path | None = None, broker: str = "filesystem://"
) -> Iterator[Target]:
    """An API without workers over the dump, by default that of SQLite."""
    with tempfile.TemporaryDirectory() as name:
        home, kind = home or Path(name) / "home", "sqlite" if database is None else "postgresql"
        database, known = database or f"sqlite:///{name}/test.db", stored(kind)
        unpack(kind, home / "artifacts")
        load(kind, database)
        installation = Installation(home, database, broker, ROOT)
        installation.command("migrate")
        stranger = installation.command("key", "create", "another", "the test's")
        with installation.api(known["key"], **STILL, **settings) as (caller, process):
            url = str(caller.http.base_url)
            readers = Caller(url, known["reader_key"]), Caller(url, stranger)
            yield Target(caller, *readers, known, home, database, process.pid)


def above_the_limit(ask: Callable[[], Answer]) -> Answer:
    """The second answer to a project that may ask once a minute; the third where a minute begins between the two."""
    answers = [ask(), ask()]
    return answers[-1] if answers[-1][0] == 429 else ask()


def described(answer: Answer) -> Body:
    """Status, headers and body, without ids, times and counts that vary."""
    status, headers, content = answer
    assert headers["content-type"] == "application/problem+json", answer
    kept = {name.lower(): value for name, value in headers.items() if name.lower() not in UNSTABLE_HEADERS}
    if "retry-after" in kept:
        kept["retry-after"] = re.sub(r"\d+", "<seconds>", kept["retry-after"])
    if "ratelimit" in kept:
        kept["ratelimit"] = re.sub(r"t=\d+", "t=<seconds>", kept["ratelimit"])
    body = json.loads(TIME.sub("<time>", ID.sub(r"\1_…", content.decode())))
    body["request_id"] = "…" if body["request_id"] else ""
    return {"status": status, "headers": dict(sorted(kept.items())), "body": body}
