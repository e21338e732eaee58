"""What the API measures of itself, for Prometheus: requests and how long they take, by operation and status."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter, Histogram

from service.shared.metrics_registry import CONTENT_TYPE, REGISTRY, exposition

REQUESTS = Counter("sensorium_requests", "Requests that were answered.", ("operation", "status"), registry=REGISTRY)
SECONDS = Histogram(
    "sensorium_request_seconds",
    "From the request's head to the last byte of its answer.",
    ("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
# Paths that are no operation share a name: a stranger must not be able to make series without end.
UNKNOWN = "none"

# Looking a series up by its labels takes longer than counting does.
_series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

router = APIRouter(tags=["operations"])


@router.get("/metrics", operation_id="metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """What this process has measured and holds, and what SQL knows of jobs, in Prometheus' text format."""
    return Response(exposition(request.app.state.collectors), media_type=CONTENT_TYPE)


def observe(route: Any, status: int, seconds: float) -> None:
    """Count a request that was answered."""
    key = getattr(route, "operation_id", None) or UNKNOWN, status
    if key not in _series:
        _series[key] = REQUESTS.labels(*key), SECONDS.labels(key[0])
    count, histogram = _series[key]
    count.inc()
    histogram.observe(seconds)
