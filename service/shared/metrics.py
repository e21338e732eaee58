"""What a process measures of itself, for Prometheus. Every process counts for itself, and is asked for itself.

Metrics stand where they are counted: `service.metrics` has requests, `service.inference.metrics` batches and engines,
`service.jobs.metrics` what SQL knows, `worker.metrics` jobs and trainings.
"""

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry()


def exposition(collectors: Iterable[Collector]) -> bytes:
    """All that was counted, and what these look up, in Prometheus' text format."""
    looked_up = CollectorRegistry()
    for collector in collectors:
        looked_up.register(collector)
    return generate_latest(REGISTRY) + generate_latest(looked_up)
