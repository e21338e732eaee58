"""The `sensorium` command: one file per group of commands, imported when one of its commands runs."""

import sys
from importlib import import_module
from typing import Any

import structlog
import typer
from typer.core import TyperGroup

from service.shared import startup_checks
from service.shared.settings import log_settings
from service.shared.telemetry import configure_logging

FILES = {
    "serve": "serving",
    "api": "serving",
    "worker": "workers",
    "migrate": "schema",
    "db": "schema",
    "secrets": "installation",
    "doctor": "installation",
    "gc": "installation",
    "project": "projects",
    "key": "keys",
}
"""The module of each command. Importing all modules takes 3 s, which would delay the start of every worker."""

# typer raises this class for an unknown command or argument, and does not export it.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]


class Commands(TyperGroup):
    """Imports the module of a command when the command runs, and prints its error as one sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return list(FILES)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of this name; None for an unknown name."""
        if name not in FILES:
            return None
        module = import_module(f"{__name__}.{FILES[name]}")
        return typer.main.get_group(module.app).commands[name]

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An expected error ends the process with one sentence instead of a traceback."""
        with startup_checks.exit_with_message():
            return super().invoke(ctx)


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def sensorium() -> None:
    """Trains and serves multimodal generative models that stay useful when modalities are missing."""


def main() -> None:
    """Run the command given by the arguments of the process."""
    logs = log_settings()
    configure_logging(logs)
    try:
        status = typer.main.get_command(app).main(prog_name="sensorium", standalone_mode=not logs.log_json)
    except UsageError as error:  # raised only with log_json; otherwise typer prints the usage
        structlog.get_logger(__name__).critical("command_rejected", detail=str(error))
        sys.exit(2)
    sys.exit(status)
