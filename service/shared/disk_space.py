"""Free space of the disks, buckets and servers that the service writes to.

Uploads and jobs leave SENSORIUM_RESERVE_BYTES free on every disk, so that small writes and deletions still succeed. For
a SQLite file, `service.shared.disk_reserve` reserves the same number of bytes against other programs.
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

# A bucket or a database server that refused a write counts as full for this time: neither reports free space.
REFUSED_SECONDS = 30.0


class Place(NamedTuple):
    """A disk, bucket or server that the service writes to.

    room_bytes: the bytes that uploads and jobs may still write; negative if the place is full. Both numbers are None
    for a bucket and a database server, which do not report them.
    """

    name: str
    is_full: bool
    free_bytes: int | None = None
    room_bytes: int | None = None


class Space:
    """The places of an installation, as one process sees them. kept_back: bytes to leave free on each disk."""

    def __init__(self, folders: Mapping[str, Path], kept_back: int, reserve: Reserve | None) -> None:
        self._folders = dict(folders)
        self._kept_back = kept_back
        self._reserve = reserve
        self._refused_at: dict[str, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The home folder, the folder of artifacts, and the folder of a SQLite file."""
        folders = {"home": settings.home, "storage": settings.artifacts}
        reserve = Reserve.beside(settings.database_url, settings.reserve_bytes)
        if reserve is not None:
            folders["database"] = reserve.path.parent
        return cls(folders, settings.reserve_bytes, reserve)

    def places(self) -> list[Place]:
        """Every existing place, with the bytes that this process may write."""
        places = []
        for name, folder in self._folders.items():
            try:
                disk = os.statvfs(folder)
                free = disk.f_bavail * disk.f_frsize  # not f_bfree, which includes space for root only
                room = free - self._kept_back - self._unreserved(folder)
            except OSError:  # not created yet, or unreachable: the next write reports it
                continue
            places.append(Place(name, room < 0, free, room))
        now = time.monotonic()
        return places + [Place(name, now - at < REFUSED_SECONDS) for name, at in self._refused_at.items()]

    def room(self, name: str) -> int | None:
        """The bytes that may still be written to a place; None if unknown."""
        return next((place.room_bytes for place in self.places() if place.name == name), None)

    def full(self) -> list[str]:
        """The names of the full places: uploads are refused, and jobs wait."""
        return [place.name for place in self.places() if place.is_full]

    def check(self, artifact_bytes: int = 0) -> None:
        """Raise StorageFull if a disk is full, or the storage has no room for an artifact of `artifact_bytes`."""
        for place in self.places():
            if place.room_bytes is not None and place.room_bytes < (artifact_bytes if place.name == "storage" else 0):
                raise StorageFull(place.name)

    def refused(self, name: str) -> None:
        """Record that a bucket or a database server reported that it is full. Disks are measured instead."""
        if name not in self._folders:
            self._refused_at[name] = time.monotonic()

    def _unreserved(self, folder: Path) -> int:
        """The bytes that the reserve on the same disk has to allocate again before uploads and jobs may write."""
        if self._reserve is None or self._reserve.path.parent.stat().st_dev != folder.stat().st_dev:
            return 0
        return self._reserve.missing_bytes()


class SpaceCollector(Collector):
    """Prometheus metrics of the disks, as one process sees them."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def collect(self) -> Iterable[Metric]:
        """The free bytes of each disk, and whether each place is full."""
        free = GaugeMetricFamily("sensorium_storage_free_bytes", "Free space on a disk.", labels=("place",))
        full = GaugeMetricFamily(
            "sensorium_storage_full", "1 while uploads are refused and jobs wait for space.", labels=("place",)
        )
        for place in self._space.places():
            full.add_metric((place.name,), float(place.is_full))
            if place.free_bytes is not None:
                free.add_metric((place.name,), place.free_bytes)
        return free, full
