"""The `sensorium` command."""

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from service import embedded, migrate
from service.access import operations as access
from service.app import create_app
from service.shared import lifeline
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.telemetry import configure_logging

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

key = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(key, name="key")


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
    settings = Settings().model_copy(update={name: value for name, value in chosen.items() if value is not None})
    configure_logging(settings)
    try:
        status = embedded.serve(settings, fresh, run)
    except (embedded.StackFailed, OSError) as error:
        sys.exit(f"sensorium: {error}")
    sys.exit(status)


@app.command()
def api(
    listener: Annotated[int | None, typer.Option(help="Descriptor of a socket that listens already.")] = None,
) -> None:
    """Run the API alone."""
    settings = Settings()
    configure_logging(settings)
    if settings.exit_with_stdin:
        lifeline.end_with_stdin()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    sockets = None if listener is None else [socket.socket(fileno=listener)]
    uvicorn.Server(config).run(sockets=sockets)


@app.command("migrate")
def upgrade() -> None:
    """Bring the database up to the newest schema."""
    settings = Settings()
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate.upgrade(settings.database_url)


@key.command("create")
def create_key(
    project: Annotated[str, typer.Argument(help="Name of the project; made if there is none.")],
    name: Annotated[str, typer.Argument(help="What the key is for.")],
) -> None:
    """Make an API key and print it. It cannot be shown again."""
    database = Database(Settings().database_url)
    with database.writer.begin() as session:
        owner = access.find_project(session, project) or access.create_project(session, project)
        _, token = access.create_key(session, owner.id, name)
    database.close()
    print(token)  # noqa: T201


if __name__ == "__main__":
    app()
