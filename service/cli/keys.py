"""`sensorium project` and `sensorium key`: create projects; create, list and revoke API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from service.access import audit
from service.access import operations as access
from service.access.scopes import SCOPES
from service.access.tables import Project
from service.shared.database import Database
from service.shared.errors import SensoriumError
from service.shared.period import ANY_TIME
from service.shared.startup_checks import read_settings

app = typer.Typer()
key = typer.Typer(no_args_is_help=True, help="API keys.")
project = typer.Typer(no_args_is_help=True, help="Projects.")
app.add_typer(key, name="key")
app.add_typer(project, name="project")


class KeyScope(StrEnum):
    """The scopes as an enumeration, so that typer lists them as choices."""

    READ = "read"
    WRITE = "write"
    INFER = "infer"
    ADMIN = "admin"


ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]


@project.command("create")
def create_project(
    name: ProjectName,
    operates: Annotated[bool, typer.Option("--operates", help="Its admin keys may create other projects.")] = False,
) -> None:
    """Create a project, and print its first key, which is shown only once."""
    with _session() as session:
        created = access.create_project(session, name, operates=operates)
        first, token = access.create_key(session, created.id, "first key")
        _record(session, created.id, "create_project", name, [created.id, first.id])
    print(token)  # noqa: T201


@key.command("create")
def create_key(
    project: Annotated[str, typer.Argument(help="Name of the project; created if it does not exist.")],
    name: Annotated[str, typer.Argument(help="Name of the key, for the list of keys.")],
    scope: Annotated[list[KeyScope] | None, typer.Option(help="A scope of the key; all scopes by default.")] = None,
    expires_in_seconds: Annotated[float | None, typer.Option(min=1, help="The key never expires by default.")] = None,
) -> None:
    """Create an API key and print it; it is shown only once."""
    with _session() as session:
        owner = access.find_project(session, project)
        if owner is None:
            owner = access.create_project(session, project)
            _record(session, owner.id, "create_project", project, [owner.id])
        scopes = [each for each in SCOPES if scope is None or each in scope]
        created, token = access.create_key(session, owner.id, name, scopes, expires_in_seconds)
        _record(session, owner.id, "create_api_key", name, [created.id])
    print(token)  # noqa: T201


@key.command("list")
def list_keys(project: ProjectName) -> None:
    """List a project's keys, newest first: id, prefix, name, scopes, last use, and expiry or revocation."""
    with _session() as session:
        keys = access.list_keys(session, _project(session, project).id, ANY_TIME, None, 10_000)
        if not keys:
            print(f"project {project!r} has no keys")  # noqa: T201
        for each in keys:
            end = each.revoked_at or each.expires_at
            state = "revoked" if each.revoked_at else "expires" if each.expires_at else "does not expire"
            used = f"last used {each.last_used_at or 'never'}"
            print(each.id, f"sns_{each.prefix}", each.name, ",".join(each.scopes), used, state, end or "", sep="  ")  # noqa: T201


@key.command("revoke")
def revoke_key(project: ProjectName, key_id: Annotated[str, typer.Argument(help="Id from `key list`.")]) -> None:
    """Revoke a key. This cannot be undone."""
    with _session() as session:
        owner = _project(session, project)
        access.revoke_key(session, owner.id, key_id)
        _record(session, owner.id, "revoke_api_key", key_id, [])
    print(f"revoked {key_id}")  # noqa: T201


def _record(session: Session, project_id: str, action: str, resource: str, created_ids: list[str]) -> None:
    audit.record(session, audit.Action(project_id, None, action, resource, client="command line", made=created_ids))


@contextmanager
def _session() -> Iterator[Session]:
    """The transaction of one command."""
    settings = read_settings()
    database = Database(settings.database_url, settings.reserve_bytes)
    try:
        with database.writer.begin() as session:
            yield session
    finally:
        database.close()


def _project(session: Session, name: str) -> Project:
    row = access.find_project(session, name)
    if row is None:
        detail = f"project {name!r} does not exist: create it with `sensorium project create {name}`"
        raise SensoriumError("project_not_found", detail)
    return row
