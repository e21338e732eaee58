"""What a process measures of itself, for Prometheus. Every process counts for itself, and is asked for itself.

Metrics stand where they are counted: requests in `service.http.request_metrics`, batches and engines in
`service.inference.metrics`, jobs in SQL in `service.jobs.job_metrics`, attempts and trainings in `worker.metrics`.
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
