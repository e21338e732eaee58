"""`sensorium secrets`, `doctor` and `gc`: create the secrets of an installation, check it, and delete unused files."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import service.tables  # noqa: F401 a file is unused when no table of any domain refers to it
from service.cli import doctor, secret_files
from service.cli.output import report
from service.shared import storage
from service.shared.database import Database
from service.shared.errors import Misconfigured
from service.shared.startup_checks import read_settings
from service.shared.storage import garbage

app = typer.Typer()


@app.command("secrets")
def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Parent of the folders `sensorium`, `postgres` and `redis`.")],
) -> None:
    """Create the missing secrets of an installation of containers."""
    created = secret_files.create(folder, read_settings())
    for name in created:
        report("secret_created", f"created {name}", name=name)
    if not created:
        report("secrets_kept", f"all secrets exist in {folder}", folder=str(folder))


@app.command("doctor")
def examine() -> None:
    """Check the installation, and print each problem with advice; the exit status is 1 if there is a problem."""
    problems = 0
    for finding in _findings():
        problems += finding.state == doctor.State.PROBLEM
        print(f"{finding.state:8} {finding.name}: {finding.detail}")  # noqa: T201
        if finding.advice:
            print(f"{'':8} -> {finding.advice}")  # noqa: T201
    sys.exit(1 if problems else 0)


def _findings() -> Iterator[doctor.Finding]:
    try:
        settings = read_settings()
    except Misconfigured as error:  # the other checks need valid settings
        yield from (doctor.Finding("settings", doctor.State.PROBLEM, problem) for problem in error.problems)
    else:
        yield from doctor.examine(settings)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove the files, or only list them.")] = False,
    older_than_seconds: Annotated[float, typer.Option(min=0, help="Keep files that are younger.")] = 3600,
) -> None:
    """List or remove stored files that no database row refers to; list rows whose file is missing."""
    settings = read_settings()
    database, store = Database(settings.database_url, settings.reserve_bytes), storage.from_settings(settings)
    try:
        unused = garbage.find(database, store, older_than_seconds)
        lines = [f"{entry.key}: {entry.size_bytes} bytes without a row" for entry in unused.unnamed]
        lines += [f"{entry.key}: {entry.size_bytes} bytes, unfinished" for entry in unused.leftovers]
        lines += [f"{stored.key}: {stored.size_bytes} bytes of deleted resources" for stored in unused.released]
        lines += [f"{stored.key}: the file is missing, its row is kept" for stored in unused.missing]
        if lines:
            print(*lines, sep="\n")  # noqa: T201
        files = len(unused.unnamed) + len(unused.leftovers) + len(unused.released)
        print(  # noqa: T201
            f"{files} files to remove: {len(unused.unnamed)} without a row, {len(unused.leftovers)} unfinished, "
            f"{len(unused.released)} of deleted resources; {len(unused.missing)} rows without a file"
        )
        if yes and files:
            print(f"{garbage.collect(database, store, unused)} files removed")  # noqa: T201
    finally:
        database.close()
