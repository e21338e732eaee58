"""Prometheus metrics of the API: requests by operation and status, and their duration by operation."""

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter, Histogram

from service.shared.metrics_registry import CONTENT_TYPE, REGISTRY, exposition

REQUESTS = Counter("sensorium_requests", "Requests that were answered.", ("operation", "status"), registry=REGISTRY)
SECONDS = Histogram(
    "sensorium_request_seconds",
    "From the head of the request to the last byte of its answer.",
    ("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
# All unknown paths share one name: clients must not be able to create any number of series.
UNKNOWN = "none"

# prometheus_client takes longer to look a series up by its labels than to count.
_series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

router = APIRouter(tags=["operations"])


@router.get("/metrics", operation_id="metrics", summary="Read metrics of this process", response_class=Response)
def metrics(request: Request) -> Response:
    """The metrics of this process and of the jobs in SQL, in the text format of Prometheus."""
    return Response(exposition(request.app.state.collectors), media_type=CONTENT_TYPE)


def observe(operation: str | None, status: int, seconds: float) -> None:
    """Count a request that was answered. operation: its id, if a route served it."""
    key = operation or UNKNOWN, status
    if key not in _series:
        _series[key] = REQUESTS.labels(*key), SECONDS.labels(key[0])
    count, histogram = _series[key]
    count.inc()
    histogram.observe(seconds)
