"""How much a Parquet file really holds: the headers of its pages say so, whatever its footer says.

A reader allocates what a page's header announces, so the headers are read before the pages are. They are read here, as
pyarrow has no way to, and so are the footer's row groups: pyarrow ends the process over statistics that are damaged.
"""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.shared.errors import BadInput, Fault
from worker.ingest.nested_survey import too_large
from worker.ingest.parquet_thrift import Bytes, Damaged, Reader

MOST_PAGES = 1_000_000
MOST_PAGE_BYTES = 256 * 1024**2
MOST_FOOTER_VALUES = 5_000_000
MOST_HEADER_VALUES = 1000

# Numbers of the fields in parquet.thrift: FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageHeader, and the
# headers of the two kinds of data pages in it.
GROUPS = 4
COLUMNS, ROWS = 1, 3
METADATA = 3
COUNT, PACKED_BYTES, FIRST_PAGE, DICTIONARY = 5, 7, 9, 11
UNPACKED, PACKED, DATA, DATA_V2 = 2, 3, 5, 8
VALUES = 1


class Group(NamedTuple):
    """A row group that has rows."""

    number: int
    rows: int
    row_bytes: int
    """Of the columns that are read, unpacked, on average."""


def groups(path: Path, widths: Mapping[int, int], most_bytes: int) -> list[Group]:
    """The row groups of a file. widths: bytes of a value in memory, by the number of each column that will be read.

    Raises BadInput where there are no pages, or they hold more than most_bytes.
    """
    found = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pages = _Pages(content, most_bytes)
        try:
            for number, group in enumerate(_row_groups(content)):
                rows, before = group[ROWS], pages.bytes
                for column, width in widths.items():
                    pages.add(group[COLUMNS][column][METADATA], rows, width)
                if rows:
                    found.append(Group(number, rows, (pages.bytes - before) // rows + 1))
        except (Damaged, IndexError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, Damaged) else "a number that it needs is missing"
            raise BadInput([Fault("", "damaged_file", f"the Parquet file is damaged: {why}")]) from error
    return found


def _row_groups(content: Bytes) -> Sequence[Mapping[int, Any]]:
    end = len(content) - 8
    length = int.from_bytes(bytes(content[place] for place in range(end, end + 4)), "little")
    found: Sequence[Mapping[int, Any]] = Reader(content, end - length, MOST_FOOTER_VALUES).struct()[GROUPS]
    return found


class _Pages:
    """Counts what the pages hold; `bytes` is what they need in memory."""

    def __init__(self, content: Bytes, most_bytes: int) -> None:
        self.bytes = 0
        self._count = 0
        self._content = content
        self._most_bytes = most_bytes

    def add(self, chunk: Mapping[int, Any], rows: int, width: int) -> None:
        """Read the headers of all pages of a column in a row group."""
        place, expected = chunk[FIRST_PAGE], chunk[COUNT]
        if 0 < chunk.get(DICTIONARY, 0) < place:
            place = chunk[DICTIONARY]
        end = place + chunk[PACKED_BYTES]
        if expected < rows or rows < 0:
            raise Damaged(f"a column has {expected} values in {rows} rows")
        if rows and not 0 < place <= end <= len(self._content):
            raise Damaged(f"a column stands at bytes {place} to {end} of {len(self._content)}")
        values = 0
        while place < end and values < expected:
            size, count, place = self._page(place)
            values += count
            self.bytes += max(size, count * width)
            if self.bytes > self._most_bytes:
                raise too_large(self.bytes, self._most_bytes)
        if values != expected:
            raise Damaged(f"the pages of a column have {values} values, expected {expected}")

    def _page(self, place: int) -> tuple[int, int, int]:
        """Of a page: its bytes when it is unpacked, its values, and where it ends."""
        reader = Reader(self._content, place, MOST_HEADER_VALUES)
        header = reader.struct()
        size, packed = header[UNPACKED], header[PACKED]
        data = header.get(DATA) or header.get(DATA_V2)
        count = data[VALUES] if data else 0
        self._count += 1
        if min(size, packed, count) < 0 or reader.place + packed > len(self._content):
            raise Damaged(f"the page at byte {place} announces {packed} bytes and {count} values")
        if size > MOST_PAGE_BYTES or self._count > MOST_PAGES:
            detail = f"page {self._count} has {size} bytes unpacked, expected at most {MOST_PAGES} pages of "
            raise BadInput([Fault("", "too_large", f"{detail}{MOST_PAGE_BYTES} bytes")])
        return size, count, reader.place + packed
