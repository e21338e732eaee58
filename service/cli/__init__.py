"""The `sensorium` command: one file per group of commands, imported when one of them is asked for."""

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
    "project": "keys",
    "key": "keys",
}
"""The module of each command. Importing all of them takes three seconds of a process that becomes a worker."""

# What typer raises for a command or an argument that there is not; it does not export the name.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]


class Commands(TyperGroup):
    """Imports a command when it is asked for. A command that fails says so in a sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names."""
        return list(FILES)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of this name, None when there is none."""
        if name not in FILES:
            return None
        module = import_module(f"{__name__}.{FILES[name]}")
        return typer.main.get_group(module.app).commands[name]

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        with startup_checks.named():
            return super().invoke(ctx)


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def sensorium() -> None:
    """Trains and serves multimodal generative models that stay useful when modalities are missing."""


def main() -> None:
    """Run the command that the arguments of the process name."""
    logs = log_settings()
    configure_logging(logs)
    try:
        status = typer.main.get_command(app).main(prog_name="sensorium", standalone_mode=not logs.log_json)
    except UsageError as error:  # only of a process whose standard error has JSON lines
        structlog.get_logger(__name__).critical("wrong_command", detail=str(error))
        sys.exit(2)
    sys.exit(status)
