"""`sensorium serve` and `sensorium api`: run the whole stack, or the API process."""

import socket
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn

from service.app import create_app
from service.cli import embedded_stack
from service.http.protocol import BoundedProtocol
from service.http.server import Server, listen
from service.shared import parent_process, startup_checks
from service.shared.startup_checks import read_settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 selects a free port.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for all files of the stack.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Empty the home folder first.")] = False,
    run: Annotated[str | None, typer.Option(help="Run this command against the stack, then stop.")] = None,
) -> None:
    """Run the whole service on this machine: the API, a train worker and a data worker."""
    options = {"host": host, "port": port, "home": home}
    settings = read_settings(**{name: value for name, value in options.items() if value is not None})
    startup_checks.check(settings)
    _warn_if_public(settings.host)
    sys.exit(embedded_stack.serve(settings, fresh, run))


@app.command()
def api(
    listener: Annotated[int | None, typer.Option(help="File descriptor of a listening socket.")] = None,
) -> None:
    """Run the API process."""
    settings = read_settings()
    startup_checks.check(settings, signs=True)
    if settings.exit_with_stdin:
        parent_process.end_with_stdin()
    application = create_app(settings)
    _warn_if_public(settings.host)
    config = uvicorn.Config(
        application,
        http=BoundedProtocol,
        ws="none",  # no route is a web socket
        server_header=False,
        reset_contextvars=True,  # the variables of one request must not reach the next
        log_config=None,
        access_log=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    open_port = listen(settings.host, settings.port) if listener is None else socket.socket(fileno=listener)
    Server(config, on_drain=lambda: application.state.feed.close()).run(sockets=[open_port])


def _warn_if_public(host: str) -> None:
    if host not in LOOPBACK:
        detail = "keys and data are sent unencrypted unless a TLS proxy is in front of the API"
        structlog.get_logger(__name__).warning("public_address_bound", host=host, detail=detail)
