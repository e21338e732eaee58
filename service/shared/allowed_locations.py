"""Reads dataset files from S3 or local folders, if their URI has a prefix that the installation allows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.shared.errors import BadInput, Fault
from service.shared.s3 import Bucket
from service.shared.settings import Settings

CHUNK_BYTES = 1024 * 1024
SCHEMES = ("s3", "file")


def check(uri: str, prefixes: Sequence[str]) -> None:
    """Raise BadInput unless a URI has one of the prefixes. Does not check that a file exists there."""
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
            f"source.uri {uri[:200]!r} has a query, a fragment, or a path segment that is empty, '.' or '..', expected "
            f"a plain path"
        )
        raise _refused("bad_location", detail)
    if not any(_lies_below(uri, prefix) for prefix in prefixes):
        expected = (
            f"one of the prefixes {', '.join(prefixes)}"
            if prefixes
            else "an upload: this installation allows no other locations"
        )
        raise _refused("location_not_allowed", f"source.uri is {uri[:200]!r}, expected {expected}")


def download(uri: str, path: Path, max_bytes: int, settings: Settings) -> None:
    """Copy a file to `path` in chunks.

    Raises BadInput if the location is not allowed, the file does not exist, or it has more than `max_bytes`.
    """
    check(uri, settings.source_prefixes)
    size = 0
    with path.open("wb") as file:
        for chunk in _chunks(uri, settings):
            size += len(chunk)
            if size > max_bytes:
                detail = f"source.uri {uri[:200]!r} is a file of more than {max_bytes} bytes, expected at most as many"
                raise _refused("too_large", detail)
            file.write(chunk)


def _chunks(uri: str, settings: Settings) -> Iterator[bytes]:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    try:
        if parts.scheme == "s3":
            yield from Bucket(f"s3://{parts.netloc}", settings).get(path.removeprefix("/"))
            return
        with _allowed_file(Path(path), settings.source_prefixes).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (FileNotFoundError, PermissionError) as error:
        raise _refused(
            "unknown_source", f"source.uri is {uri[:200]!r}, expected a file that exists and that the service can read"
        ) from error


def _allowed_file(path: Path, prefixes: Sequence[str]) -> Path:
    """The target of a path, if it is a regular file in an allowed folder: links may leave it, and pipes block."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise FileNotFoundError(path) from error
    folders = [_folder(prefix) for prefix in prefixes if urlsplit(prefix).scheme == "file"]
    if not any(real.is_relative_to(folder) for folder in folders) or not real.is_file():
        raise FileNotFoundError(real)
    return real


def _lies_below(uri: str, prefix: str) -> bool:
    location, allowed = urlsplit(uri), urlsplit(prefix)
    if (location.scheme, location.netloc) != (allowed.scheme, allowed.netloc):
        return False
    folder = unquote(allowed.path).rstrip("/")
    return unquote(location.path).startswith(f"{folder}/")


def _folder(prefix: str) -> Path:
    return Path(unquote(urlsplit(prefix).path)).resolve()


def _refused(code: str, detail: str) -> BadInput:
    return BadInput([Fault("/source/uri", code, detail)])
