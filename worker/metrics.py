"""The Prometheus metrics of a worker: jobs, leases, trainings, and batches of inference.

`service.shared.metrics_registry` has the registry; `service.inference.metrics` those of an engine.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.shared.metrics_registry import REGISTRY
from worker.worker_state import WorkerState

CLAIMED = Counter("sensorium_worker_jobs_claimed", "Attempts that were started.", ("kind",), registry=REGISTRY)
ENDED = Counter(
    "sensorium_worker_jobs_ended",
    "Attempts that ended, by outcome: finished, failed, stopped (cancelled, paused, timed out or given back) or lost.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
UNSAVED = Counter("sensorium_worker_heartbeats_unsaved", "Heartbeats that failed to reach SQL.", registry=REGISTRY)
EPOCHS = Counter("sensorium_training_epochs", "Epochs that were trained.", registry=REGISTRY)
STEPS = Counter("sensorium_training_steps", "Optimiser steps that were taken.", registry=REGISTRY)
ROWS = Counter("sensorium_training_rows", "Rows that were trained on, once per epoch.", registry=REGISTRY)
ROWS_PER_SECOND = Gauge(
    "sensorium_training_rows_per_second", "Training throughput of the last epoch.", registry=REGISTRY
)
CHECKPOINTS = Counter("sensorium_checkpoints", "Checkpoints that were stored.", registry=REGISTRY)
CHECKPOINT_BYTES = Counter("sensorium_checkpoint_bytes", "Bytes of checkpoints that were stored.", registry=REGISTRY)
BATCHES = Counter(
    "sensorium_worker_batches", "Batches of inference, by outcome: answered, failed or expired.", ("outcome",),
    registry=REGISTRY,
)  # fmt: skip
COMPUTE_SECONDS = Counter(
    "sensorium_worker_compute_seconds", "Seconds that batches of inference took to compute.", registry=REGISTRY
)


class LeaseCollector(Collector):
    """Whether the worker runs a job, and the age of that job's lease."""

    def __init__(self, worker: WorkerState) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        """Two gauges."""
        renewed_at = self._worker.renewed_at if self._worker.job_id is not None else None
        age = 0.0 if renewed_at is None else time.monotonic() - renewed_at
        yield GaugeMetricFamily(
            "sensorium_worker_busy", "1 while the worker runs a job.", float(renewed_at is not None)
        )
        yield GaugeMetricFamily(
            "sensorium_worker_lease_age_seconds", "Seconds since the job's lease was last renewed.", age
        )


def count_epoch(throughput: Mapping[str, Any]) -> None:
    """Count an epoch by what the trainer reports of it: `rows`, `steps` and `seconds`."""
    EPOCHS.inc()
    STEPS.inc(throughput["steps"])
    ROWS.inc(throughput["rows"])
    ROWS_PER_SECOND.set(throughput["rows"] / max(throughput["seconds"], 1e-9))


def count_checkpoint(size_bytes: int) -> None:
    """Count a checkpoint that was stored."""
    CHECKPOINTS.inc()
    CHECKPOINT_BYTES.inc(size_bytes)
