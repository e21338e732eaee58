"""The file formats of uploads and downloads: one file per format, registered here or by an entry point.

A package adds a format by an entry point in the group sensorium.formats that names a `Format`. The format names its
reader as "MODULE:FUNCTION": the service knows the reader by name only, and the converter process imports it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath

from service.datasets.formats import jsonl, npz, parquet
from service.datasets.formats.format import Download, Format
from service.shared.errors import BadInput, Fault

FORMATS_GROUP = "sensorium.formats"
# `Format.recognises` is called with this many bytes.
FIRST_BYTES = 64

BUILT_IN = (npz.FORMAT, parquet.FORMAT, jsonl.FORMAT)


@cache
def registered() -> Mapping[str, Format]:
    """All formats by name. The built-in ones come first; an entry point does not replace them."""
    formats = {format.name: format for format in BUILT_IN}
    for entry_point in entry_points(group=FORMATS_GROUP):
        format: Format = entry_point.load()
        formats.setdefault(format.name, format)
    return formats


def find(name: str) -> Format:
    """The format of this name. Raises BadInput if it is unknown or its package is no longer installed."""
    if name not in registered():
        detail = f"there is no format {name!r}, expected one of {', '.join(registered())}"
        raise BadInput([Fault("/source/format", "unknown_format", detail)])
    return registered()[name]


def downloads() -> Mapping[str, Download]:
    """The formats of downloads, by name."""
    return {name: format.download for name, format in registered().items() if format.download is not None}


def recognise(path: Path) -> Format:
    """Recognise the format of a file by its first bytes. Raises BadInput."""
    with path.open("rb") as file:
        first = file.read(FIRST_BYTES)
    if not first:
        raise BadInput([Fault("", "empty_file", "the upload has no bytes, expected a file")])
    for format in registered().values():
        if format.recognises(first):
            return format
    *titles, last = (format.title for format in registered().values())
    detail = f"the file begins with {first[:8]!r}, expected {', '.join(titles)} or {last}"
    raise BadInput([Fault("", "unknown_format", detail)])


def of_uri(uri: str) -> Format:
    """The format for the suffix of a URI. Raises BadInput."""
    suffixes = {suffix: format for format in registered().values() for suffix in format.suffixes}
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in suffixes:
        detail = f"{uri[:200]!r} ends with {suffix!r}, expected one of {', '.join(suffixes)}; or give source.format"
        raise BadInput([Fault("/source/uri", "unknown_format", detail)])
    return suffixes[suffix]
