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
    """Writes samples in a format."""

    write: Callable[[Samples], Iterator[bytes]]
    """The file, in pieces of some rows."""
    check: Callable[[Samples, int], None] = _any_samples
    """(samples, max_bytes): raises Conflict for samples that the format cannot hold in max_bytes."""


@dataclass(frozen=True)
class Format:
    """A file format of uploads, and of downloads if `download` is set."""

    name: str
    """The name in the API, and the suffix of downloads."""
    title: str
    """The name in messages and in the documentation."""
    suffixes: tuple[str, ...]
    """The suffixes of file names at URIs, in lower case, with the dot."""
    media_type: str
    """Of downloads."""
    recognises: Callable[[bytes], bool]
    """Whether a file with these first `FIRST_BYTES` bytes, or fewer if it is shorter, has this format."""
    reader: str
    """MODULE:FUNCTION, a `worker.ingest.block.Reader`. Only the converter process imports it."""
    inspect: Callable[[Path, int], list[ArrayHeader]] = _no_arrays
    """(path, max_bytes): the arrays that the headers of an upload announce. Runs while the upload is stored.

    Raises BadInput for a damaged file, or for one with more than max_bytes once unpacked.
    """
    check_declaration: Callable[[Sequence[ArrayHeader], Declaration], None] = _any_declaration
    """(arrays, declaration): raises BadInput for faults that are known before the conversion."""
    download: Download | None = None
    """None: samples cannot be downloaded in this format."""
