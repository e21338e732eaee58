"""A bucket of an S3-compatible object store."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from service.shared.errors import StorageFull, Unavailable
from service.shared.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# At most this much of a file is in memory: parts of an upload on their way at once, times their size.
PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4
READ_BYTES = 2 * PART_BYTES
MOST_PARTS = 10_000  # of one upload, in S3
CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
# How object stores say that they have no space left, or a bucket no quota: HTTP in general, MinIO, Ceph.
FULL = ("507 Insufficient Storage", "XMinioStorageFull", "QuotaExceeded")


class StorageAway(Unavailable):
    """The object store does not answer, or not as it should. Worth trying again."""

    def __init__(self, detail: str) -> None:
        super().__init__("storage_unavailable", detail)


class Entry(NamedTuple):
    """A file in a store."""

    key: str
    size_bytes: int
    modified_at: datetime


class Bucket:
    """Objects below `s3://BUCKET/PREFIX`. Every call raises StorageAway when the store does not answer.

    Those that store raise StorageFull when it has no space left.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        parts = urlsplit(url)
        self.url = url
        options: S3Config = {}
        if settings.s3_region is not None:
            options["region"] = settings.s3_region
        if settings.s3_endpoint is not None:
            options["endpoint"] = settings.s3_endpoint
        if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
            options["access_key_id"] = settings.s3_access_key_id
            options["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
        plain = settings.s3_endpoint is not None and settings.s3_endpoint.startswith("http://")
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=options,
            client_options={**CLIENT, "allow_http": plain},
            retry_config=RETRIES,
        )

    def put(self, key: str, path: Path) -> None:
        """Store a file; it is there whole, or not at all."""
        part = max(PART_BYTES, math.ceil(path.stat().st_size / MOST_PARTS))
        with self._asked(f"store {key}"):
            obstore.put(self._store, key, path, chunk_size=part, max_concurrency=PARTS_AT_ONCE)

    def get(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, piece by piece. Raises FileNotFoundError.

        A request a piece: one for the whole object ends with the time-out, or with a connection that is lost after
        `retry_timeout`, and is not taken up again.
        """
        with self._asked(f"read {key}"):
            whole = obstore.head(self._store, key)
            for start in range(0, whole["size"], READ_BYTES):
                end = min(start + READ_BYTES, whole["size"])
                piece = obstore.get(self._store, key, options={"range": (start, end)})
                if piece.meta["e_tag"] != whole["e_tag"]:
                    raise StorageAway(f"{self.url}: {key} changed while it was read")
                yield bytes(piece.bytes())

    def size(self, key: str) -> int | None:
        """The size of an object; None when there is none."""
        try:
            with self._asked(f"look for {key}"):
                return obstore.head(self._store, key)["size"]
        except FileNotFoundError:
            return None

    def remove(self, key: str) -> None:
        """Delete an object, if there is one."""
        try:
            with self._asked(f"delete {key}"):
                obstore.delete(self._store, key)
        except FileNotFoundError:
            pass

    def entries(self) -> Iterator[Entry]:
        """All objects."""
        with self._asked("list objects"):
            for page in obstore.list(self._store):
                for found in page:
                    yield Entry(found["path"], found["size"], found["last_modified"])

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if not self._is_there():
                raise StorageAway(f"{self.url} did not {what}: there is no such bucket") from error
            raise FileNotFoundError(what) from error
        except (BaseError, OSError) as error:
            if any(code in str(error) for code in FULL):
                raise StorageFull("bucket") from error
            raise StorageAway(f"{self.url} did not {what}: {_first_line(error)}") from error

    def _is_there(self) -> bool:
        """Whether the bucket itself exists; without it every object is "not found", and none of them is lost."""
        try:
            next(obstore.list(self._store, chunk_size=1), None)
        except BaseError as error:
            return "NoSuchBucket" not in str(error)
        return True


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
