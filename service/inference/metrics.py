"""Prometheus metrics of inference: counters of batches, and gauges of the queue and the engine."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.shared.metrics_registry import REGISTRY

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

BATCH_ROWS = Histogram("sensorium_inference_batch_rows", "Rows per batch.", buckets=SIZES, registry=REGISTRY)
BATCH_REQUESTS = Histogram(
    "sensorium_inference_batch_requests", "Requests per batch.", buckets=SIZES[:9], registry=REGISTRY
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
REFUSED = Counter(
    "sensorium_inference_refused", "Requests that were refused because the queue was full.", registry=REGISTRY
)
LOADS = Counter("sensorium_engine_loads", "Versions that the engine has loaded.", registry=REGISTRY)
EVICTIONS = Counter(
    "sensorium_engine_evictions", "Versions that left the engine to make room for others.", registry=REGISTRY
)

# prometheus_client takes longer to look a series up by its labels than to count.
_by_operation: dict[str, Histogram] = {}


def count_batch(operation: str, requests: int, rows: int, waited_seconds: float, seconds: float) -> None:
    """Count a computed batch."""
    BATCH_REQUESTS.observe(requests)
    BATCH_ROWS.observe(rows)
    QUEUE_SECONDS.observe(waited_seconds)
    if operation not in _by_operation:
        _by_operation[operation] = COMPUTE_SECONDS.labels(operation)
    _by_operation[operation].observe(seconds)


class EngineUse(NamedTuple):
    """The loaded versions of an engine, the memory of their weights, and its limit."""

    versions: int
    memory_bytes: int
    limit_bytes: int


class QueueCollector(Collector):
    """The requests that wait in an API process. waiting: their number at the moment."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """One gauge."""
        help = "Requests for inference that wait for a batch."
        yield GaugeMetricFamily("sensorium_inference_waiting", help, self._waiting())


class EngineCollector(Collector):
    """The loaded versions of an engine. use: what it has loaded at the moment."""

    def __init__(self, use: Callable[[], EngineUse]) -> None:
        self._use = use

    def collect(self) -> Iterable[Metric]:
        """Three gauges."""
        use = self._use()
        memory, limit = "Memory of the weights in the engine.", "Limit of the memory of weights."
        yield GaugeMetricFamily("sensorium_engine_memory_bytes", memory, use.memory_bytes)
        yield GaugeMetricFamily("sensorium_engine_memory_limit_bytes", limit, use.limit_bytes)
        yield GaugeMetricFamily("sensorium_engine_versions", "Versions in the engine.", use.versions)
