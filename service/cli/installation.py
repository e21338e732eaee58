"""`sensorium secrets`, `doctor` and `gc`: make, examine and clean an installation."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import service.tables  # noqa: F401 a file is unused when no table of any domain refers to it
from service.cli import doctor, secret_files
from service.cli.services import say
from service.shared import storage
from service.shared.database import Database
from service.shared.errors import Misconfigured
from service.shared.startup_checks import read_settings
from service.shared.storage import garbage

app = typer.Typer()


@app.command("secrets")
def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Where; a folder below it for each who reads some.")],
) -> None:
    """Make the secrets of an installation of containers that it does not have yet."""
    made = secret_files.make(folder, read_settings())
    for name in made:
        say("secret_made", f"made {name}", name=name)
    if not made:
        say("secrets_kept", f"nothing to make: all secrets are in {folder}", folder=str(folder))


@app.command("doctor")
def examine() -> None:
    """Look at everything an installation needs, and say what to do about what is wrong; ends with 1 then."""
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
    except Misconfigured as error:  # with which nothing else can be looked at
        yield from (doctor.Finding("settings", doctor.State.PROBLEM, one) for one in error.found)
    else:
        yield from doctor.examine(settings)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove it; by default it is only shown.")] = False,
    older_than_seconds: Annotated[float, typer.Option(min=0, help="Leave files alone that are younger.")] = 3600,
) -> None:
    """Show, or remove, stored files that no row names; show rows whose file is gone."""
    settings = read_settings()
    database, store = Database(settings.database_url, settings.reserve_bytes), storage.from_settings(settings)
    try:
        found = garbage.find(database, store, older_than_seconds)
        lines = [f"{entry.key}: {entry.size_bytes} bytes without a row" for entry in found.unnamed]
        lines += [f"{entry.key}: {entry.size_bytes} bytes that were never finished" for entry in found.leftovers]
        lines += [f"{stored.key}: {stored.size_bytes} bytes that nothing needs" for stored in found.released]
        lines += [f"{stored.key}: the file is gone, its row stays" for stored in found.missing]
        if lines:
            print(*lines, sep="\n")  # noqa: T201
        files = len(found.unnamed) + len(found.leftovers) + len(found.released)
        print(  # noqa: T201
            f"{'nothing' if not files else f'{files} files'} to remove: {len(found.unnamed)} without a row, "
            f"{len(found.leftovers)} unfinished, {len(found.released)} that nothing needs; "
            f"{len(found.missing)} rows have lost their file"
        )
        if yes and files:
            print(f"{garbage.collect(database, store, found)} files removed")  # noqa: T201
    finally:
        database.close()
