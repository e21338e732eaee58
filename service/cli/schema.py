"""`sensorium migrate` and `sensorium db`: upgrade and check the schema of the database."""

from typing import Annotated

import typer

from service.cli.output import report
from service.shared import migrate, startup_checks
from service.shared.errors import SensoriumError
from service.shared.startup_checks import read_settings

app = typer.Typer()
db = typer.Typer(no_args_is_help=True, help="The database schema.")
app.add_typer(db, name="db")


@app.command("migrate")
@db.command("migrate")
def upgrade(
    revision: Annotated[str, typer.Option(help="Target revision; the newest by default.")] = "head",
) -> None:
    """Upgrade the database to the newest schema."""
    settings = read_settings()
    startup_checks.check(settings)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    before, _ = migrate.revisions(settings.database_url)
    migrate.upgrade(settings.database_url, revision)
    now, _ = migrate.revisions(settings.database_url)
    text = f"already at revision {now}" if before == now else f"from revision {before or 'none'} to {now}"
    report("schema_migrated", text, before=before, now=now)


@db.command("check")
def check_schema() -> None:
    """Check that the database has the schema of this release; the exit status is 1 if it has not."""
    current, newest = migrate.revisions(read_settings().database_url)
    if current != newest:
        detail = f"the database is at revision {current or 'none'}, expected {newest}: run `sensorium db migrate`"
        raise SensoriumError("schema_differs", detail)
    print(f"at revision {newest}")  # noqa: T201
