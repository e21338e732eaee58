"""`sensorium migrate` and `sensorium db`: the schema of the database."""

from typing import Annotated

import typer

from service.cli.services import say
from service.shared import migrate, startup_checks
from service.shared.errors import SensoriumError
from service.shared.startup_checks import read_settings

app = typer.Typer()
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db, name="db")


@app.command("migrate")
@db.command("migrate")
def upgrade(
    revision: Annotated[str, typer.Option(help="The schema to go to; the newest by default.")] = "head",
) -> None:
    """Bring the database up to the newest schema."""
    settings = read_settings()
    startup_checks.check(settings)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    before, _ = migrate.revisions(settings.database_url)
    migrate.upgrade(settings.database_url, revision)
    now, _ = migrate.revisions(settings.database_url)
    said = f"at revision {now} already" if before == now else f"from revision {before or 'none'} to {now}"
    say("schema_migrated", said, before=before, now=now)


@db.command("check")
def check_schema() -> None:
    """Say whether the database has the schema of this release; ends with 1 where it has not."""
    found, newest = migrate.revisions(read_settings().database_url)
    if found != newest:
        said = f"the database is at revision {found or 'none'}, expected {newest}: run `sensorium db migrate`"
        raise SensoriumError("schema_differs", said)
    print(f"at revision {newest}")  # noqa: T201
