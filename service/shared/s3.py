"""Objects in a bucket of an S3-compatible store. Apart from `storage`, so that conversions read buckets without SQL."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from service.shared.errors import StorageFull, Unavailable
from service.shared.outage_log import Outage
from service.shared.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

log = structlog.get_logger(__name__)

# An upload holds at most PARTS_AT_ONCE parts in memory.
PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4
MAX_PARTS = 10_000  # of one upload, in S3
READ_BYTES = 2 * PART_BYTES
CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
# The texts by which a store reports that it, or the quota of a bucket, is full: HTTP in general, MinIO, Ceph. The
# errors of obstore have only this text, no status or code. Therefore pyproject.toml caps its version, and a test has a
# server for each text.
FULL = ("507 Insufficient Storage", "XMinioStorageFull", "QuotaExceeded")


class Entry(NamedTuple):
    """A file as a store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime


class StorageAway(Unavailable):
    """The object store does not answer, or answers with an error. The same call may succeed later."""

    def __init__(self, detail: str) -> None:
        super().__init__("storage_unavailable", detail)


class Bucket:
    """The objects below `s3://BUCKET/PREFIX`.

    Every method raises StorageAway if the store does not answer; `put` raises StorageFull if it has no space left.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        parts = urlsplit(url)
        self.url = url
        self._outage = Outage(log, "bucket_failed", "bucket_recovered")
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
        """Store a file as one object. The object appears whole, or not at all."""
        part = max(PART_BYTES, math.ceil(path.stat().st_size / MAX_PARTS))
        with self._errors(f"store {key}"):
            obstore.put(self._store, key, path, chunk_size=part, max_concurrency=PARTS_AT_ONCE)

    def get(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, in pieces. Raises FileNotFoundError.

        Every piece is a request of its own: a single request for the object would end at `timeout`, and obstore does
        not resume one whose connection is lost after `retry_timeout`.
        """
        with self._errors(f"read {key}"):
            whole = obstore.head(self._store, key)
            for start in range(0, whole["size"], READ_BYTES):
                end = min(start + READ_BYTES, whole["size"])
                piece = obstore.get(self._store, key, options={"range": (start, end)})
                if piece.meta["e_tag"] != whole["e_tag"]:
                    raise StorageAway(f"{self.url}: {key} changed while it was read")
                yield bytes(piece.bytes())

    def exists(self, key: str) -> bool:
        """Whether the bucket has an object of this name."""
        try:
            with self._errors(f"look for {key}"):
                obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def remove(self, key: str) -> None:
        """Delete an object, if it exists."""
        try:
            with self._errors(f"delete {key}"):
                obstore.delete(self._store, key)
        except FileNotFoundError:
            pass

    def entries(self) -> Iterator[Entry]:
        """All objects."""
        with self._errors("list objects"):
            for page in obstore.list(self._store):
                for entry in page:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Turn errors of the library into ours."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            self._check_bucket(action)
            raise FileNotFoundError(action) from error
        except (BaseError, OSError) as error:
            if any(text in str(error) for text in FULL):
                raise StorageFull("bucket") from error
            self._outage.failed("bucket", error)
            raise StorageAway(f"{self.url} did not {action}; try again") from error
        else:
            self._outage.works("bucket")

    def _check_bucket(self, action: str) -> None:
        """Raise StorageAway unless the bucket can be listed. In a bucket that does not exist, no object is found."""
        try:
            next(obstore.list(self._store, chunk_size=1), None)
        except BaseError as error:
            raise StorageAway(f"{self.url} did not {action}: the bucket does not exist or cannot be listed") from error
