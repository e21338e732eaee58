"""`sensorium project`: create, list, change, delete and restore projects, as an operator does over HTTP."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.orm import Session, sessionmaker

from service.access import audit
from service.access import operations as access
from service.access.operations import Principal
from service.access.quotas import Quotas
from service.access.scopes import SCOPES
from service.access.tables import Project
from service.administration import operations as projects
from service.administration.schemas import ProjectChanges
from service.shared.database import Database
from service.shared.errors import SensoriumError
from service.shared.period import ANY_TIME
from service.shared.startup_checks import read_settings

app = typer.Typer()
project = typer.Typer(no_args_is_help=True, help="Projects.")
app.add_typer(project, name="project")

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
DEFAULT = "default"
OPERATOR = Principal(project_id="", key_id="", scopes=frozenset(SCOPES), operates=True)
"""The caller of every command: a person with a shell on the host operates the installation."""


@contextmanager
def transactions() -> Iterator[sessionmaker[Session]]:
    """The writer of the configured database, for the transactions of one command."""
    settings = read_settings()
    database = Database(settings.database_url, settings.reserve_bytes)
    try:
        yield database.writer
    finally:
        database.close()


def find(session: Session, name: str) -> Project:
    """The project of this name, which may be deleted. Raises SensoriumError."""
    row = access.find_project(session, name)
    if row is None:
        detail = f"project {name!r} does not exist: create it with `sensorium project create {name}`"
        raise SensoriumError("project_not_found", detail)
    return row


def record(session: Session, project_id: str, action: str, resource: str, created_ids: list[str]) -> None:
    """Add an audit event of a command."""
    audit.record(session, audit.Action(project_id, None, action, resource, client="command line", made=created_ids))


@project.command("create")
def create_project(
    name: ProjectName,
    operates: Annotated[
        bool, typer.Option("--operates", help="Its admin keys may create, change and delete other projects.")
    ] = False,
) -> None:
    """Create a project, and print its first key, which is shown only once."""
    with transactions() as writer, writer.begin() as session:
        created = access.create_project(session, name, operates=operates)
        first, token = access.create_key(session, created.id, "first key")
        record(session, created.id, "create_project", name, [created.id, first.id])
    print(token)  # noqa: T201


@project.command("list")
def list_projects(
    deleted: Annotated[bool, typer.Option("--deleted", help="The deleted ones instead of the others.")] = False,
) -> None:
    """List the projects, newest first: id, name, own quotas, stored bytes."""
    with transactions() as writer, writer() as session:
        for row in access.list_projects(session, OPERATOR, deleted, ANY_TIME, None, 10_000):
            body = projects.describe(session, row)
            own = body.quotas.model_dump(exclude_none=True)
            limits = ",".join(f"{name}={limit}" for name, limit in own.items()) or "default quotas"
            state = f"deleted {body.deleted_at}" if body.deleted_at else "operates" if body.operates else ""
            print(body.id, body.name, limits, f"stores {body.stored_bytes} bytes", state, sep="  ")  # noqa: T201


@project.command("set")
def set_project(
    name: ProjectName,
    new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=VALUE, or NAME={DEFAULT} for the installation's: {', '.join(Quotas._fields)}."),
    ] = None,
) -> None:
    """Set a project's name or quotas. The API knows them within 2 s, workers with their next job."""
    changes = _changes(new_name, quota or ())
    with transactions() as writer, writer.begin() as session:
        project_id = find(session, name).id
        changed = projects.change(session, OPERATOR, project_id, changes)
        record(session, project_id, "change_project", name, [])
    print(changed.name, changed.quotas.model_dump_json())  # noqa: T201


@project.command("delete")
def delete_project(
    name: ProjectName,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove all data of a deleted project; this cannot be undone.")
    ] = False,
) -> None:
    """Delete a project: its keys are refused within 2 s, and its jobs are cancelled. `restore` undoes it."""
    with transactions() as writer:
        with writer.begin() as session:
            project_id = find(session, name).id
            begin = projects.begin_purge if purge else projects.delete
            begin(session, OPERATOR, project_id)
            record(session, project_id, "delete_project", name, [])
        some = projects.purge_some if purge else projects.cancel_some
        while True:
            with writer.begin() as session:
                if not some(session, project_id):
                    break
    print(f"{'purged' if purge else 'deleted'} {name}")  # noqa: T201


@project.command("restore")
def restore_project(name: ProjectName) -> None:
    """Undo the deletion of a project that was not purged. Its keys are valid again, except revoked ones."""
    with transactions() as writer, writer.begin() as session:
        project_id = find(session, name).id
        projects.restore(session, OPERATOR, project_id)
        record(session, project_id, "restore_project", name, [])
    print(f"restored {name}")  # noqa: T201


def _changes(name: str | None, quotas: Sequence[str]) -> ProjectChanges:
    pairs = [each.partition("=") for each in quotas]
    limits = {field: None if value == DEFAULT else value for field, _, value in pairs}
    try:
        return ProjectChanges.model_validate({"name": name, "quotas": limits})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise SensoriumError("invalid_input", faults) from error
