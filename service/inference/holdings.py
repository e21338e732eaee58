"""What the queue and the engine of a process hold at the moment it is asked."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.inference.batcher import Batcher
from service.inference.engine import Engine


class QueueCollector(Collector):
    """The requests that wait in an API process."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterable[Metric]:
        """One gauge."""
        told = "Requests for inference that wait for a batch."
        yield GaugeMetricFamily("sensorium_inference_waiting", told, self._batcher.waiting)


class EngineCollector(Collector):
    """The versions that an engine has loaded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """What they take, what they may take, and how many they are."""
        holdings = self._engine.holdings()
        used, budget = "Memory of the weights in the engine.", "Memory that weights may take."
        yield GaugeMetricFamily("sensorium_engine_memory_bytes", used, holdings.memory_bytes)
        yield GaugeMetricFamily("sensorium_engine_memory_limit_bytes", budget, holdings.limit_bytes)
        yield GaugeMetricFamily("sensorium_engine_versions", "Versions in the engine.", holdings.versions)
