"""Structured logs, and the request id in their lines."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog

from service.shared.settings import LogSettings

REQUEST_ID = "request_id"
JOB_ID = "job_id"
# The fields of every log line about a job, in the worker and in its child process.
OF_JOB = (JOB_ID, REQUEST_ID)

# Loggers with one INFO line per message, migration or plug-in.
TALKATIVE = ("celery.worker.strategy", "celery.app.trace", "alembic.runtime.migration", "alembic.runtime.plugins")


# The id of the current request. structlog's context variables take ten times as long to set.
serving: ContextVar[str | None] = ContextVar("serving", default=None)


def _add_request_id(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if (request_id := serving.get()) is not None:
        event.setdefault(REQUEST_ID, request_id)
    return event


def of_job(job_id: str, request_id: str | None) -> dict[str, str]:
    """The values of OF_JOB; a job that no request has created has no request id."""
    return {JOB_ID: job_id} | ({REQUEST_ID: request_id} if request_id else {})


def write_line(logger: str, level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write a log line ten times as fast as structlog, in the same format; for the access log.

    The caller checks the level. Does nothing before logging is configured.
    """
    if _write_line is not None:
        _write_line(logger, level, event, fields)


_Writer = Callable[[str, str, str, Mapping[str, Any]], None]
_write_line: _Writer | None = None


def _line_writer(stream: TextIO, as_json: bool) -> _Writer:
    def write(logger: str, level: str, event: str, fields: Mapping[str, Any]) -> None:
        now = datetime.now(UTC)
        if as_json:
            values = {**fields, "event": event, "level": level, "logger": logger, "timestamp": now}
            line = orjson.dumps(values, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        else:
            words = " ".join([f"{name}={value}" for name, value in fields.items()])
            line = f"{now:%Y-%m-%dT%H:%M:%S.%fZ} [{level:9}] {event:30} [{logger}] {words}\n".encode()
        with contextlib.suppress(OSError, ValueError):  # a closed log must not fail a request
            os.write(stream.fileno(), line)  # unbuffered; the other lines are flushed one by one

    return write


def configure_logging(settings: LogSettings) -> None:
    """Write the log lines of all loggers to standard error in one format: text, or JSON lines.

    Warnings and uncaught exceptions use the same format.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_json
        # Plain tracebacks: the default ones show local variables, which may hold keys and data.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    global _write_line  # one per process, like the root logger
    _write_line = _line_writer(handler.stream, settings.log_json)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    threading.excepthook = lambda raised: _on_uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)
    sys.unraisablehook = lambda raised: _on_uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _on_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, (SystemExit, KeyboardInterrupt)):
        logging.getLogger(__name__).critical("uncaught_exception", exc_info=(kind, error, traceback))
