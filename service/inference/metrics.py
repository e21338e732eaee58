"""What inference counts as it computes. `service.inference.holdings` tells what it holds."""

from prometheus_client import Counter, Histogram

from service.shared.metrics_registry import REGISTRY

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

BATCH_ROWS = Histogram(
    "sensorium_inference_batch_rows", "Rows that were computed together.", buckets=SIZES, registry=REGISTRY
)
BATCH_REQUESTS = Histogram(
    "sensorium_inference_batch_requests", "Requests that shared a batch.", buckets=SIZES[:9], registry=REGISTRY
)
QUEUE_SECONDS = Histogram(
    "sensorium_inference_queue_seconds",
    "How long the oldest request of a batch has waited for it.",
    buckets=SECONDS,
    registry=REGISTRY,
)
COMPUTE_SECONDS = Histogram(
    "sensorium_inference_compute_seconds",
    "How long an engine has computed a batch.",
    ("operation",),
    buckets=SECONDS,
    registry=REGISTRY,
)
REFUSED = Counter("sensorium_inference_refused", "Requests that found the queue full.", registry=REGISTRY)
LOADS = Counter("sensorium_engine_loads", "Versions that the engine has loaded.", registry=REGISTRY)
EVICTIONS = Counter(
    "sensorium_engine_evictions", "Versions that left the engine to make room for others.", registry=REGISTRY
)

_by_operation: dict[str, Histogram] = {}


def computed(operation: str, requests: int, rows: int, waited_seconds: float, seconds: float) -> None:
    """Count a batch."""
    BATCH_REQUESTS.observe(requests)
    BATCH_ROWS.observe(rows)
    QUEUE_SECONDS.observe(waited_seconds)
    if operation not in _by_operation:  # looking a series up by its labels takes longer than counting does
        _by_operation[operation] = COMPUTE_SECONDS.labels(operation)
    _by_operation[operation].observe(seconds)
