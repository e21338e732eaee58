"""What the service and the converter process know of one file format."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.datasets.declaration import Declaration
from service.shared.npz import ArrayHeader
from service.shared.samples import Samples


def _no_arrays(path: Path, max_bytes: int) -> list[ArrayHeader]:
    return []


def _any_declaration(arrays: Sequence[ArrayHeader], declaration: Declaration) -> None:
    pass


def _any_samples(samples: Samples, max_bytes: int) -> None:
    pass


@dataclass(frozen=True)
class Download:
    """How a format is written."""

    write: Callable[[Samples], Iterator[bytes]]
    """The samples as a file, some rows at a time."""
    check: Callable[[Samples, int], None] = _any_samples
    """(samples, max_bytes): raises Conflict for samples that the format cannot hold in max_bytes."""


@dataclass(frozen=True)
class Format:
    """A file format of uploads, and of downloads when it has `download`."""

    name: str
    """The name in the API, and the suffix of downloads."""
    title: str
    """The name in messages and in the documentation."""
    suffixes: tuple[str, ...]
    """The endings of file names that tell the format of a file behind a URI: in lower case, with the dot."""
    media_type: str
    """Of downloads."""
    recognises: Callable[[bytes], bool]
    """Whether a file that begins with these bytes has this format: `FIRST_BYTES` of them, fewer in a shorter file."""
    reader: str
    """MODULE:FUNCTION, a `worker.ingest.block.Reader`. The converter process alone imports it."""
    inspect: Callable[[Path, int], list[ArrayHeader]] = _no_arrays
    """(path, max_bytes): the arrays that the headers of an upload announce. Runs while the upload is stored.

    Raises BadInput for a damaged file, or for one with more than max_bytes once unpacked.
    """
    check_declaration: Callable[[Sequence[ArrayHeader], Declaration], None] = _any_declaration
    """(arrays, declaration): raises BadInput for what does not fit, before a conversion is queued."""
    download: Download | None = None
    """None: samples cannot be downloaded in this format."""
