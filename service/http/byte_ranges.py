"""Parses the `Range` header (RFC 9110, section 14)."""

import re

from service.shared.errors import SensoriumError

# Up to 18 digits: no file is larger.
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class Unsatisfiable(SensoriumError):
    """A range that begins after the end of the file."""

    status = 416

    def __init__(self, header: str, size: int) -> None:
        detail = f"Range is {header[:80]!r}, expected a part of the {size} bytes of the file"
        super().__init__("range_not_satisfiable", detail)
        self.headers = {"Content-Range": f"bytes */{size}"}


def parse(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the end (exclusive) of a range, or None to send the whole file.

    The standard allows the whole file for several ranges, and requires it for unknown units and invalid syntax.
    Raises Unsatisfiable.
    """
    match = _ONE_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable(header, size)
    return start, stop
