"""Files that stand elsewhere, for the prefixes that an installation allows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.shared.bucket import Bucket
from service.shared.errors import BadInput, Fault
from service.shared.settings import Settings

CHUNK_BYTES = 1024 * 1024
SCHEMES = ("s3", "file")


def check(uri: str, prefixes: Sequence[str]) -> None:
    """Raise BadInput unless a URI lies below one of the prefixes. Says nothing about whether anything stands there."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise _refused("unknown_scheme", f"{uri[:200]!r} begins with {parts.scheme!r}, expected s3:// or file://")
    steps = unquote(parts.path).split("/")
    if parts.query or parts.fragment or "\0" in unquote(uri) or any(step in (".", "..") for step in steps):
        raise _refused(
            "bad_location", f"{uri[:200]!r} has a query, a fragment or steps like '..', expected a plain path"
        )
    if not any(_lies_below(uri, prefix) for prefix in prefixes):
        allowed = ", ".join(prefixes) or "nothing"
        raise _refused("location_not_allowed", f"{uri[:200]!r} is not allowed; datasets may be read from {allowed}")


def download(uri: str, path: Path, most_bytes: int, settings: Settings) -> None:
    """Copy a file to `path`, a piece at a time.

    Raises BadInput for a location that is not allowed, where nothing stands, or for more than `most_bytes`.
    """
    check(uri, settings.source_prefixes)
    size = 0
    try:
        with path.open("wb") as file:
            for piece in _pieces(uri, settings):
                size += len(piece)
                if size > most_bytes:
                    raise _refused("too_large", f"{uri[:200]!r} has more than {most_bytes} bytes")
                file.write(piece)
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
        raise _refused("unknown_source", f"there is no file {uri[:200]!r} that can be read") from error


def _pieces(uri: str, settings: Settings) -> Iterator[bytes]:
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        yield from Bucket(f"s3://{parts.netloc}", settings).get(unquote(parts.path).strip("/"))
        return
    real = Path(unquote(parts.path)).resolve(strict=True)
    folders = [_folder(prefix) for prefix in settings.source_prefixes if urlsplit(prefix).scheme == "file"]
    if not any(real.is_relative_to(folder) for folder in folders):  # a link may lead elsewhere
        raise FileNotFoundError(real)
    with real.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


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
