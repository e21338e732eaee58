"""`sensorium key`: create, list and revoke API keys."""

from enum import StrEnum
from typing import Annotated

import typer

from service.access import operations as access
from service.access.scopes import SCOPES
from service.cli.projects import ProjectName, find, record, transactions
from service.shared.errors import SensoriumError
from service.shared.period import ANY_TIME

app = typer.Typer()
key = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(key, name="key")


class KeyScope(StrEnum):
    """The scopes as an enumeration, so that typer lists them as choices."""

    READ = "read"
    WRITE = "write"
    INFER = "infer"
    ADMIN = "admin"


@key.command("create")
def create_key(
    project: Annotated[str, typer.Argument(help="Name of the project; created if it does not exist.")],
    name: Annotated[str, typer.Argument(help="Name of the key, for the list of keys.")],
    scope: Annotated[list[KeyScope] | None, typer.Option(help="A scope of the key; all scopes by default.")] = None,
    expires_in_seconds: Annotated[float | None, typer.Option(min=1, help="The key never expires by default.")] = None,
) -> None:
    """Create an API key and print it; it is shown only once."""
    with transactions() as writer, writer.begin() as session:
        owner = access.find_project(session, project)
        if owner is None:
            owner = access.create_project(session, project)
            record(session, owner.id, "create_project", project, [owner.id])
        if owner.deleted_at is not None:
            detail = f"project {project!r} is deleted: restore it with `sensorium project restore {project}`"
            raise SensoriumError("project_deleted", detail)
        scopes = [each for each in SCOPES if scope is None or each in scope]
        created, token = access.create_key(session, owner.id, name, scopes, expires_in_seconds)
        record(session, owner.id, "create_api_key", name, [created.id])
    print(token)  # noqa: T201


@key.command("list")
def list_keys(project: ProjectName) -> None:
    """List a project's keys, newest first: id, prefix, name, scopes, last use, and expiry or revocation."""
    with transactions() as writer, writer.begin() as session:
        keys = access.list_keys(session, find(session, project).id, ANY_TIME, None, 10_000)
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
    with transactions() as writer, writer.begin() as session:
        owner = find(session, project)
        access.revoke_key(session, owner.id, key_id)
        record(session, owner.id, "revoke_api_key", key_id, [])
    print(f"revoked {key_id}")  # noqa: T201
