"""kombu's filesystem transport with atomic messages.

kombu writes a message in place: a reader can get half of it, and its worker ends. kombu takes a message by a move to
the temporary folder, which is a copy if that is another file system. kombu's version is capped for the two
overridden methods (decision 62, `tests/test_version_bounds.py`).
"""

import contextlib
import time
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads
from ulid import ULID


class Channel(filesystem.Channel):
    """A channel whose queues are files named TIME_ID.QUEUE.msg in one folder."""

    def _put(self, queue: str, payload: dict[str, Any], **options: Any) -> None:
        final = Path(self.data_folder_out) / f"{time.monotonic_ns()}_{ULID()}.{queue}.msg"
        unfinished = final.with_suffix(".tmp")
        try:
            unfinished.write_text(dumps(payload))
            unfinished.rename(final)
        finally:
            unfinished.unlink(missing_ok=True)  # half a message, if the disk is full

    def _get(self, queue: str) -> Any:
        for path in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            claimed = Path(self.processed_folder) / path.name
            with contextlib.suppress(FileNotFoundError):  # another worker took it
                path.rename(claimed)
                payload = loads(claimed.read_text())
                claimed.unlink()
                return payload
        raise Empty


class Transport(filesystem.Transport):
    """`broker_transport` of the embedded stack."""

    Channel = Channel
