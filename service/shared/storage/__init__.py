"""Content-addressed artifacts, in a folder or in S3: durable before any row names them, verified when read.

`store` has the files, `rows` what SQL knows of them, `garbage` the files that it does not know.
"""

from service.shared.storage.artifact import CorruptArtifact, Stored
from service.shared.storage.artifact_rows import discard, record, release, stored_bytes, sweep
from service.shared.storage.store import Storage, Writer, from_settings

__all__ = [
    "CorruptArtifact",
    "Storage",
    "Stored",
    "Writer",
    "discard",
    "from_settings",
    "record",
    "release",
    "stored_bytes",
    "sweep",
]
