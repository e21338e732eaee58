"""How much space is left where the service writes.

Uploads and jobs leave SENSORIUM_RESERVE_BYTES of every disk free, so that what is small, and what deletes, still works.
`service.shared.disk_reserve` holds as many bytes beside a SQLite file, for when others fill the disk.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.shared.disk_reserve import Reserve
from service.shared.errors import StorageFull
from service.shared.settings import Settings

# A bucket, or a database server, that refused to store is full for so long: nothing tells when it has space again.
REFUSED_SECONDS = 30.0


class Place(NamedTuple):
    """Somewhere the service writes. room_bytes: what uploads and jobs may still write, below 0 when it is full.

    Both are null for a bucket and a database server, which do not tell.
    """

    name: str
    is_full: bool
    free_bytes: int | None = None
    room_bytes: int | None = None


class Space:
    """The places of an installation, seen from one process. `kept_back` are the bytes to leave free on each disk."""

    def __init__(self, folders: Mapping[str, Path], kept_back: int, reserve: Reserve | None) -> None:
        self._folders = dict(folders)
        self._kept_back = kept_back
        self._reserve = reserve
        self._refused_at: dict[str, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The home folder, the folder of artifacts, and that of a SQLite file."""
        folders = {"home": settings.home, "storage": settings.artifacts}
        reserve = Reserve.beside(settings.database_url, settings.reserve_bytes)
        if reserve is not None:
            folders["database"] = reserve.path.parent
        return cls(folders, settings.reserve_bytes, reserve)

    def places(self) -> list[Place]:
        """Every place that is there, with the bytes that this process's user may fill."""
        found = []
        for name, folder in self._folders.items():
            try:
                disk = os.statvfs(folder)
                free = disk.f_bavail * disk.f_frsize  # not f_bfree, some of which is root's alone
                room = free - self._kept_back - self._given_up(folder)
            except OSError:  # not made yet, or away: whoever needs it says so
                continue
            found.append(Place(name, room < 0, free, room))
        now = time.monotonic()
        return found + [Place(name, now - at < REFUSED_SECONDS) for name, at in self._refused_at.items()]

    def room(self, name: str) -> int | None:
        """What may still be written at a place; None where that is not known."""
        return next((place.room_bytes for place in self.places() if place.name == name), None)

    def full(self) -> list[str]:
        """The names of the places where uploads are refused and jobs wait."""
        return [place.name for place in self.places() if place.is_full]

    def check(self, more_bytes: int = 0) -> None:
        """Raise StorageFull where a disk is full, or has no room for so many bytes of an artifact."""
        for place in self.places():
            if place.room_bytes is not None and place.room_bytes < (more_bytes if place.name == "storage" else 0):
                raise StorageFull(place.name)

    def refused(self, name: str) -> None:
        """Note that a bucket, or a database server, has said that it is full. A folder's disk is looked at."""
        if name not in self._folders:
            self._refused_at[name] = time.monotonic()

    def _given_up(self, folder: Path) -> int:
        """What the reserve on the same disk does not hold, and is to hold again before anything else is written."""
        if self._reserve is None or self._reserve.path.parent.stat().st_dev != folder.stat().st_dev:
            return 0
        return self._reserve.missing_bytes()


class SpaceCollector(Collector):
    """What a process sees of its disks, for Prometheus."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def collect(self) -> Iterable[Metric]:
        """Free bytes, and whether uploads are refused and jobs wait."""
        free = GaugeMetricFamily("sensorium_storage_free_bytes", "Space left on a disk.", labels=("place",))
        full = GaugeMetricFamily(
            "sensorium_storage_full", "1 while uploads are refused and jobs wait for space.", labels=("place",)
        )
        for place in self._space.places():
            full.add_metric((place.name,), float(place.is_full))
            if place.free_bytes is not None:
                free.add_metric((place.name,), place.free_bytes)
        return free, full
