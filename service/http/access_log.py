"""The access log: one line per request that was answered. It has no key, no path that was typed and no query."""

import logging

from starlette.types import Scope

from service.http.dependencies import PRINCIPAL
from service.shared import telemetry

log = logging.getLogger(__name__)

# Asked every few seconds by whoever watches the process; told when they fail, or at DEBUG.
WATCHED = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})


def record(scope: Scope, status: int, seconds: float) -> None:
    """Say what was asked, by which project, and what came of it."""
    route = getattr(scope.get("route"), "path", None)
    quiet = route in WATCHED and status < 400
    level = logging.DEBUG if quiet else logging.INFO
    if not log.isEnabledFor(level):
        return
    principal = scope.get(PRINCIPAL)
    about = {
        "method": scope["method"],
        "route": route,
        "status": status,
        "duration_seconds": round(seconds, 6),
        "project": principal.project_id if principal is not None else None,
        telemetry.REQUEST_ID: scope["request_id"],
    }
    telemetry.say(__name__, "debug" if quiet else "info", "request_served", about)
