"""The Prometheus registry of a process. Prometheus scrapes every process separately.

Metrics are defined where they are counted: requests in `service.http.request_metrics`, batches and engines in
`service.inference.metrics`, jobs in SQL in `service.jobs.job_metrics`, attempts and trainings in `worker.metrics`.
"""

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry()


def exposition(collectors: Iterable[Collector]) -> bytes:
    """The metrics of the registry and of these collectors, in Prometheus' text format."""
    collected = CollectorRegistry()
    for collector in collectors:
        collected.register(collector)
    return generate_latest(REGISTRY) + generate_latest(collected)
