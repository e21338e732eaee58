"""The parts in which a large piece of a response is sent."""

from collections.abc import Iterator

MAX_BYTES = 256 * 1024
"""More bytes at once would block the event loop."""


def parts(piece: bytes | memoryview) -> Iterator[memoryview]:
    """Views of the piece, at most MAX_BYTES each."""
    view = memoryview(piece)
    for start in range(0, len(view), MAX_BYTES):
        yield view[start : start + MAX_BYTES]
