"""The APIs that are asked, each with the requests that provoke errors of it."""

import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
from sqlalchemy import make_url

from tests import filesystem, servers
from tests.conftest import need
from tests.contract.error_requests import SMALL_LIMITS
from tests.contract.error_target import Target, target
from tests.contract.provocations import busy_engine, model_requests, parser_process, stored_files, valid_request
from tests.contract.provocations.any_request import ANY_REQUEST, unfinished, unknown_key
from tests.contract.provocations.case import Case, Provoke
from tests.contract.provocations.comparison import LIMITED
from tests.contract.provocations.missing import MISSING
from tests.contract.provocations.states import STATES

Key = str | tuple[str, str]
"""A code, or an operation and a code."""
NO_SPACE = {"SENSORIUM_RESERVE_BYTES": str(10**15)}
NO_MEMORY = {"SENSORIUM_INFERENCE_MEMORY_BYTES": "1"}
NOWHERE = "http://127.0.0.1:9"
DISK_MEGABYTES = 16
FREES_SPACE = (
    "cancel_run",
    "cancel_runs",
    "delete_alias",
    "delete_dataset",
    "delete_dataset_version",
    "delete_model",
    "delete_model_version",
    "delete_project",
    "delete_run",
    "delete_upload",
    "pause_run",
    "revoke_api_key",
)
"""Operations that are served until the database itself has no space left."""
FETCHES = (
    *(
        f"{name}{suffix}"
        for name in ("encode", "forecast", "impute", "reconstruct", "sample", "score")
        for suffix in ("", "_by_alias")
    ),
    "download_dataset",
    "download_run_checkpoint",
    "export_model_version",
    "preview_dataset",
    "v2_infer",
    "v2_infer_version",
)
"""Operations that copy a file from the bucket to the disk."""


class Server(NamedTuple):
    """An API, and what it is asked. at_once: requests at the same moment."""

    start: Callable[[], AbstractContextManager[Target]]
    requests: Mapping[Key, Provoke]
    at_once: int = 1


@contextmanager
def _broken() -> Iterator[Target]:
    """Its database lacks a table."""
    with target(LIMITED) as found:
        found.execute("ALTER TABLE api_keys RENAME TO gone")
        yield found


@contextmanager
def _without_database() -> Iterator[Target]:
    need(servers.postgresql_binaries(), "PostgreSQL")
    with servers.postgresql_process() as (url, server), target(LIMITED, url) as found:
        server.process.send_signal(signal.SIGINT)
        server.process.wait()
        yield found


@contextmanager
def _full_database() -> Iterator[Target]:
    """Every write fails as it does on a full disk."""
    need(servers.postgresql_binaries(), "PostgreSQL")
    with servers.postgresql() as url, target(LIMITED, url) as found:
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"
            )
            for (table,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall():
                connection.execute(
                    f'CREATE TRIGGER fill BEFORE INSERT OR UPDATE OR DELETE ON "{table}" EXECUTE FUNCTION fill()'
                )
        yield found


@contextmanager
def _damaged() -> Iterator[Target]:
    with target(LIMITED) as found:
        stored_files.damage(found.home / "artifacts")
        yield found


@contextmanager
def _full_disk() -> Iterator[Target]:
    """Its files are in a bucket, and the disk for copies of them is full."""
    with (
        tempfile.TemporaryDirectory() as name,
        filesystem.small(Path(name) / "disk", DISK_MEGABYTES) as disk,
        servers.s3_server() as endpoint,
        target({**stored_files.in_bucket(endpoint), **LIMITED}, home=disk) as found,
    ):
        stored_files.put_all(endpoint, disk / "artifacts")
        filesystem.fill(disk / "ballast")
        yield found


@contextmanager
def _without_workers(**settings: str) -> Iterator[Target]:
    need(servers.redis_binary(), "Redis")
    short = {"SENSORIUM_INFERENCE_BACKEND": "celery", "SENSORIUM_INFERENCE_REPLY_SECONDS": "2"}
    with (
        tempfile.TemporaryDirectory() as name,
        servers.redis_server(Path(name) / "redis") as broker,
        target({**short, **settings, **LIMITED}, broker=broker) as found,
    ):
        yield found


@contextmanager
def _busy() -> Iterator[Target]:
    with _without_workers(**busy_engine.ONE_WAITS) as found, busy_engine.kept_busy(found):
        yield found


SERVERS: dict[str, Server] = {
    "small limits": Server(
        partial(target, {**SMALL_LIMITS, **LIMITED}),
        {**ANY_REQUEST, **MISSING, **STATES, **model_requests.ERRORS}
        | {"range_not_satisfiable": stored_files.range_behind_the_end},
    ),
    "slow clients": Server(partial(target, LIMITED), {"request_timeout": unfinished}, at_once=200),
    "large rows": Server(
        partial(target, {**model_requests.UNLIMITED, **LIMITED}),
        {"rows_too_large": model_requests.too_large_rows, "body_not_read": parser_process.killed},
    ),
    "no memory": Server(partial(target, {**NO_MEMORY, **LIMITED}), {"engine_out_of_memory": valid_request.send}),
    "no infer workers": Server(_without_workers, {"inference_unavailable": valid_request.send}, at_once=20),
    "busy engine": Server(_busy, {"engine_busy": busy_engine.busy}),
    "damaged files": Server(_damaged, {"artifact_corrupt": valid_request.send}),
    "no bucket": Server(
        partial(target, {**stored_files.in_bucket(NOWHERE), **LIMITED}),
        {"storage_unavailable": valid_request.send},
        at_once=20,
    ),
    "no space": Server(partial(target, {**NO_SPACE, **LIMITED}), {"storage_full": valid_request.send}),
    "full disk": Server(_full_disk, dict.fromkeys(((name, "storage_full") for name in FETCHES), valid_request.send)),
    "full database": Server(
        _full_database, dict.fromkeys(((name, "storage_full") for name in FREES_SPACE), valid_request.send)
    ),
    "broken database": Server(_broken, {"internal_error": unknown_key}),
    "no database": Server(_without_database, {"database_unavailable": unknown_key}),
}
"""By what is special about them."""


def server_of(case: Case) -> str | None:
    """The server that provokes an error; None if no server does."""
    keys = (case.id, case.code), case.code
    return next((name for key in keys for name, server in SERVERS.items() if key in server.requests), None)


def request_of(case: Case) -> Provoke:
    """The request that provokes an error at its server."""
    requests = SERVERS[server_of(case) or ""].requests
    return requests.get((case.id, case.code)) or requests[case.code]
