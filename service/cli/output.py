"""Output of the commands that containers run as services, such as `sensorium migrate`."""

from typing import Any

import structlog

from service.shared.settings import log_settings

log = structlog.get_logger(__name__)


def report(event: str, text: str, **fields: Any) -> None:
    """Print `text`, or log `event` if SENSORIUM_LOG_JSON is set."""
    if log_settings().log_json:
        log.info(event, **fields)
    else:
        print(text)  # noqa: T201
