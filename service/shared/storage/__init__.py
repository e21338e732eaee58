"""Content-addressed artifacts, in a folder or a bucket. A file is durable before its row, and verified when it is read.

`storage` is the interface, `folder` and `bucket` implement it; `artifact_rows` has the rows of artifacts, `garbage`
finds files without rows.
"""

from service.shared.disk_space import Space
from service.shared.s3 import Bucket, StorageAway
from service.shared.settings import Settings
from service.shared.storage.artifact import CorruptArtifact, Stored
from service.shared.storage.artifact_rows import discard, record, release, release_some, stored_bytes, sweep
from service.shared.storage.bucket import BucketStorage
from service.shared.storage.folder import FolderStorage
from service.shared.storage.storage import Storage
from service.shared.storage.writer import Writer

__all__ = [
    "BucketStorage",
    "CorruptArtifact",
    "FolderStorage",
    "Storage",
    "StorageAway",
    "Stored",
    "Writer",
    "discard",
    "from_settings",
    "record",
    "release",
    "release_some",
    "stored_bytes",
    "sweep",
]


def from_settings(settings: Settings) -> Storage:
    """The store that the settings choose."""
    space = Space.of(settings)
    if settings.bucket_url is None:
        return FolderStorage(settings.artifacts, space)
    return BucketStorage(settings.artifacts, Bucket(settings.bucket_url, settings), settings.cache_bytes, space)
