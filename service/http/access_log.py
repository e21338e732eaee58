"""The access log: one line per answered request, without API key, literal path and query."""

import logging

from starlette.types import Scope

from service.http import head_requests
from service.http.dependencies import PRINCIPAL
from service.shared import telemetry

log = logging.getLogger(__name__)

# Probes ask these every few seconds: logged when they fail, or at level DEBUG.
PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})


def record(scope: Scope, route: str | None, status: int, seconds: float) -> None:
    """Log one answered request. route: the path template that served it, if any."""
    quiet = route in PROBES and status < 400
    level = logging.DEBUG if quiet else logging.INFO
    if not log.isEnabledFor(level):
        return
    principal = scope.get(PRINCIPAL)
    about = {
        "method": head_requests.method_of(scope),
        "route": route,
        "status": status,
        "duration_seconds": round(seconds, 6),
        "project": principal.project_id if principal is not None else None,
        telemetry.REQUEST_ID: scope["request_id"],
    }
    telemetry.write_line(__name__, "debug" if quiet else "info", "request_served", about)
