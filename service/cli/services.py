"""What commands say that containers run as services: their standard output is a log too."""

from typing import Any

import structlog

from service.shared.settings import log_settings

log = structlog.get_logger(__name__)


def say(event: str, text: str, **about: Any) -> None:
    """A sentence for people, or an event where the log is JSON lines."""
    if log_settings().log_json:
        log.info(event, **about)
    else:
        print(text)  # noqa: T201
