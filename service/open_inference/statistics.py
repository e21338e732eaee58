"""Statistics of the protocol: requests per version since this process started, and where their time went."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from service.inference.queries import Version

MAX_VERSIONS = 10_000


@dataclass
class _Tally:
    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def summary(self) -> dict[str, int]:
        return {"count": self.count, "ns": int(self.seconds * 1e9)}


@dataclass
class _Counts:
    version: Version
    rows: int = 0
    last_milliseconds: int = 0
    parts: dict[str, _Tally] = field(
        default_factory=lambda: {
            name: _Tally()
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
                         "cache_miss")
        }
    )  # fmt: skip


class Statistics:
    """The counts of one API process. All of it runs in one event loop."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Counts] = OrderedDict()

    def succeeded(self, version: Version, rows: int, seconds: dict[str, float]) -> None:
        """Count an answer. seconds: the durations of its parts, and of all of it as `success`."""
        counts = self._of(version)
        counts.rows += rows
        counts.last_milliseconds = int(time.time() * 1000)
        for name, duration in seconds.items():
            counts.parts[name].add(duration)

    def failed(self, version: Version, seconds: float) -> None:
        """Count a request that failed."""
        self._of(version).parts["fail"].add(seconds)

    def summary(self, project_id: str, version: Version | None = None) -> dict[str, Any]:
        """The statistics of one version, or of all versions of a project that had requests."""
        if version is not None:
            return {"model_stats": [_summary(self._counts.get(version.id) or _Counts(version))]}
        own_counts = [counts for counts in self._counts.values() if counts.version.project_id == project_id]
        return {"model_stats": [_summary(counts) for counts in own_counts]}

    def _of(self, version: Version) -> _Counts:
        counts = self._counts.setdefault(version.id, _Counts(version))
        self._counts.move_to_end(version.id)
        if len(self._counts) > MAX_VERSIONS:
            self._counts.popitem(last=False)
        return counts


def _summary(counts: _Counts) -> dict[str, Any]:
    return {
        "name": counts.version.model,
        "version": str(counts.version.number),
        "last_inference": counts.last_milliseconds,
        "inference_count": counts.rows,
        "execution_count": counts.parts["success"].count,
        "inference_stats": {name: tally.summary() for name, tally in counts.parts.items()},
        "batch_stats": [],
    }
