"""The `sensorium` command."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvicorn
from sqlalchemy.orm import Session
from typer.core import TyperGroup

from service import doctor, embedded, migrate, secret_files
from service.access import audit
from service.access import operations as access
from service.access.scopes import SCOPES
from service.app import create_app
from service.http_protocol import BoundedProtocol
from service.server import Server, listen
from service.shared import lifeline, preflight, storage
from service.shared.database import Database
from service.shared.errors import NotFound
from service.shared.preflight import read_settings
from service.shared.storage import garbage
from service.shared.tables import Project
from service.shared.telemetry import configure_logging

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Named(TyperGroup):
    """A command that fails says so in a sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        with preflight.named():
            return super().invoke(ctx)


app = typer.Typer(cls=Named, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class KeyScope(StrEnum):
    """What a key may do; typer offers the members of an enumeration."""

    READ = "read"
    WRITE = "write"
    INFER = "infer"
    ADMIN = "admin"


key = typer.Typer(no_args_is_help=True, help="API keys.")
project = typer.Typer(no_args_is_help=True, help="Projects.")
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(key, name="key")
app.add_typer(project, name="project")
app.add_typer(db, name="db")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of everything the stack writes.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Empty the home folder first.")] = False,
    run: Annotated[str | None, typer.Option(help="Run this command against the stack, then stop.")] = None,
) -> None:
    """Run the whole service on this machine: API, a train worker and a data worker."""
    chosen = {"host": host, "port": port, "home": home}
    settings = read_settings(**{name: value for name, value in chosen.items() if value is not None})
    preflight.check(settings)
    configure_logging(settings)
    _warn_of_strangers(settings.host)
    try:
        status = embedded.serve(settings, fresh, run)
    except embedded.StackFailed as error:
        sys.exit(f"sensorium: {error}")
    sys.exit(status)


@app.command()
def api(
    listener: Annotated[int | None, typer.Option(help="Descriptor of a socket that listens already.")] = None,
) -> None:
    """Run the API alone."""
    settings = read_settings()
    preflight.check(settings, signs=True)
    configure_logging(settings)
    if settings.exit_with_stdin:
        lifeline.end_with_stdin()
    served = create_app(settings)
    _warn_of_strangers(settings.host)
    config = uvicorn.Config(
        served,
        http=BoundedProtocol,
        server_header=False,
        reset_contextvars=True,  # who acts, and for which request, is known of one request alone
        log_config=None,
        access_log=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    open_port = listen(settings.host, settings.port) if listener is None else socket.socket(fileno=listener)
    Server(config, on_drain=lambda: served.state.feed.close()).run(sockets=[open_port])


@app.command("migrate")
@db.command("migrate")
def upgrade(
    revision: Annotated[str, typer.Option(help="The schema to go to; the newest by default.")] = "head",
) -> None:
    """Bring the database up to the newest schema."""
    settings = read_settings()
    preflight.check(settings)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate.upgrade(settings.database_url, revision)


@db.command("check")
def check_schema() -> None:
    """Say whether the database has the schema of this release; ends with 1 where it has not."""
    found, newest = migrate.revisions(read_settings().database_url)
    if found != newest:
        sys.exit(
            f"sensorium: the database is at revision {found or 'none'}, expected {newest}: run sensorium db migrate"
        )
    print(f"at revision {newest}")  # noqa: T201


@app.command("secrets")
def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Where; a folder below it for each who reads some.")],
) -> None:
    """Make the secrets of an installation of containers that it does not have yet."""
    for name in secret_files.make(folder, read_settings()):
        print(f"made {name}")  # noqa: T201


@app.command("doctor")
def examine() -> None:
    """Look at everything an installation needs, and say what to do about what is wrong; ends with 1 then."""
    problems = 0
    for finding in doctor.examine(read_settings()):
        problems += finding.state == doctor.State.PROBLEM
        print(f"{finding.state:8} {finding.name}: {finding.detail}")  # noqa: T201
        if finding.advice:
            print(f"{'':8} -> {finding.advice}")  # noqa: T201
    sys.exit(1 if problems else 0)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove it; by default it is only shown.")] = False,
    older_than_seconds: Annotated[float, typer.Option(min=0, help="Leave files alone that are younger.")] = 3600,
) -> None:
    """Show, or remove, stored files that no row names; show rows whose file is gone."""
    settings = read_settings()
    database, store = Database(settings.database_url), storage.from_settings(settings)
    try:
        found = garbage.find(database, store, older_than_seconds)
        lines = [f"{entry.key}: {entry.size_bytes} bytes without a row" for entry in found.unnamed]
        lines += [f"{entry.key}: {entry.size_bytes} bytes that were never finished" for entry in found.leftovers]
        lines += [f"{stored.key}: {stored.size_bytes} bytes that nothing needs" for stored in found.released]
        lines += [f"{stored.key}: the file is gone, its row stays" for stored in found.missing]
        print(*lines, sep="\n")  # noqa: T201
        if yes:
            print(f"{garbage.collect(database, store, found)} files removed")  # noqa: T201
    finally:
        database.close()


ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]


@project.command("create")
def create_project(
    name: ProjectName,
    operates: Annotated[bool, typer.Option("--operates", help="Its administrators may make other projects.")] = False,
) -> None:
    """Make a project, and print its first key. It cannot be shown again."""
    with _session() as session:
        made = access.create_project(session, name, operates=operates)
        first, token = access.create_key(session, made.id, "first key")
        _record(session, made.id, "create_project", name, [made.id, first.id])
    print(token)  # noqa: T201


@key.command("create")
def create_key(
    project: Annotated[str, typer.Argument(help="Name of the project; made if there is none.")],
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[KeyScope] | None, typer.Option(help="What it may do; all of it by default.")] = None,
    expires_in_seconds: Annotated[float | None, typer.Option(min=1, help="Never by default.")] = None,
) -> None:
    """Make an API key and print it. It cannot be shown again."""
    with _session() as session:
        owner = access.find_project(session, project)
        if owner is None:
            owner = access.create_project(session, project)
            _record(session, owner.id, "create_project", project, [owner.id])
        scopes = [each for each in SCOPES if scope is None or each in scope]
        made, token = access.create_key(session, owner.id, name, scopes, expires_in_seconds)
        _record(session, owner.id, "create_api_key", name, [made.id])
    print(token)  # noqa: T201


@key.command("list")
def list_keys(project: ProjectName) -> None:
    """Show a project's keys, newest first: id, beginning, name, scopes, and when they were used and end."""
    with _session() as session:
        keys = access.list_keys(session, _project(session, project).id, None, 10_000)
        for each in keys:
            ends = each.revoked_at or each.expires_at
            state = "revoked" if each.revoked_at else "expires" if each.expires_at else "for ever"
            used = f"used {each.last_used_at or 'never'}"
            print(each.id, f"sns_{each.prefix}", each.name, ",".join(each.scopes), used, state, ends or "", sep="  ")  # noqa: T201


@key.command("revoke")
def revoke_key(project: ProjectName, key_id: Annotated[str, typer.Argument(help="As `key list` shows it.")]) -> None:
    """End a key for good."""
    with _session() as session:
        owner = _project(session, project)
        access.revoke_key(session, owner.id, key_id)
        _record(session, owner.id, "revoke_api_key", key_id, [])


def _warn_of_strangers(host: str) -> None:
    if host not in LOOPBACK:
        detail = "keys and data travel in the clear unless a proxy with TLS stands in front"
        structlog.get_logger(__name__).warning("listens_beyond_loopback", host=host, detail=detail)


def _record(session: Session, project_id: str, action: str, resource: str, made: list[str]) -> None:
    audit.record(session, audit.Action(project_id, None, action, resource, client="command line", made=made))


@contextmanager
def _session() -> Iterator[Session]:
    """A transaction of one command."""
    database = Database(read_settings().database_url)
    try:
        with database.writer.begin() as session:
            yield session
    finally:
        database.close()


def _project(session: Session, name: str) -> Project:
    found = access.find_project(session, name)
    if found is None:
        raise NotFound("project", name)
    return found


if __name__ == "__main__":
    app()
