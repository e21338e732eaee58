"""Files that stand elsewhere, for the prefixes that an installation allows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.shared.errors import BadInput, Fault
from service.shared.settings import Settings
from service.shared.storage.s3 import Bucket

CHUNK_BYTES = 1024 * 1024
SCHEMES = ("s3", "file")


def check(uri: str, prefixes: Sequence[str]) -> None:
    """Raise BadInput unless a URI lies below one of the prefixes. Says nothing about whether anything stands there."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise _refused(
            "bad_location", f"source.uri is {uri[:200]!r}, expected a URI such as s3://BUCKET/PATH"
        ) from error
    if parts.scheme not in SCHEMES:
        raise _refused("unknown_scheme", f"source.uri is {uri[:200]!r}, expected it to begin with s3:// or file://")
    steps = unquote(parts.path).split("/")[1:]
    if parts.query or parts.fragment or "\0" in unquote(uri) or any(step in ("", ".", "..") for step in steps):
        detail = (
            f"source.uri {uri[:200]!r} has a query, a fragment, or steps that are empty or '..', expected a plain path"
        )
        raise _refused("bad_location", detail)
    if not any(_lies_below(uri, prefix) for prefix in prefixes):
        expected = (
            f"a place below {', '.join(prefixes)}" if prefixes else "an upload: no files elsewhere may be read here"
        )
        raise _refused("location_not_allowed", f"source.uri is {uri[:200]!r}, expected {expected}")


def download(uri: str, path: Path, most_bytes: int, settings: Settings) -> None:
    """Copy a file to `path`, a piece at a time.

    Raises BadInput for a location that is not allowed, where nothing stands, or for more than `most_bytes`.
    """
    check(uri, settings.source_prefixes)
    size = 0
    with path.open("wb") as file:
        for piece in _pieces(uri, settings):
            size += len(piece)
            if size > most_bytes:
                raise _refused("too_large", f"source.uri {uri[:200]!r} has more than {most_bytes} bytes")
            file.write(piece)


def _pieces(uri: str, settings: Settings) -> Iterator[bytes]:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    try:
        if parts.scheme == "s3":
            yield from Bucket(f"s3://{parts.netloc}", settings).get(path.removeprefix("/"))
            return
        with _allowed_file(Path(path), settings.source_prefixes).open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except (FileNotFoundError, PermissionError) as error:
        raise _refused(
            "unknown_source", f"source.uri is {uri[:200]!r}, expected a file that is there and can be read"
        ) from error


def _allowed_file(path: Path, prefixes: Sequence[str]) -> Path:
    """Where a path leads in the end. A link may lead elsewhere, and who opens a pipe waits for ever."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise FileNotFoundError(path) from error
    folders = [_folder(prefix) for prefix in prefixes if urlsplit(prefix).scheme == "file"]
    if not any(real.is_relative_to(folder) for folder in folders) or not real.is_file():
        raise FileNotFoundError(real)
    return real


def _lies_below(uri: str, prefix: str) -> bool:
    given, allowed = urlsplit(uri), urlsplit(prefix)
    if (given.scheme, given.netloc) != (allowed.scheme, allowed.netloc):
        return False
    below = unquote(allowed.path).rstrip("/")
    return unquote(given.path).startswith(f"{below}/")


def _folder(prefix: str) -> Path:
    return Path(unquote(urlsplit(prefix).path)).resolve()


def _refused(code: str, detail: str) -> BadInput:
    return BadInput([Fault("/source/uri", code, detail)])
