"""The stored columns and row groups of a Parquet file: what they hold, checked before any page is unpacked.

A footer may announce less than the pages hold. Then the memory limit of the process ends the conversion.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from service.shared.errors import BadInput, Fault, pointer
from worker.ingest.nested_survey import too_large

VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 4}
DECIMAL_BYTES = 32  # Arrow's decimal and the float64 that it becomes


class Group(NamedTuple):
    """A row group that has rows."""

    number: int
    rows: int
    row_bytes: int
    """Unpacked bytes of a row on average, in the columns that are read."""


def groups(metadata: pq.FileMetaData, widths: Mapping[int, int], max_bytes: int) -> list[Group]:
    """The row groups of a file.

    widths: bytes of one value in memory, by the number of each stored column that is read. Raises BadInput when the
    columns hold more than max_bytes, or fewer values than rows.
    """
    found, total = [], 0
    for number in range(metadata.num_row_groups):
        group, size = metadata.row_group(number), 0
        for place, width in widths.items():
            column = group.column(place)
            if not 0 <= group.num_rows <= column.num_values:
                name = column.path_in_schema
                detail = f"column {name!r} has {column.num_values} values in the {group.num_rows} rows of row group "
                detail += f"{number}, expected at least one value per row; write the file again"
                raise BadInput([Fault(pointer(name), "damaged_file", detail)])
            size += max(column.total_uncompressed_size, column.num_values * width)
        total += size
        if total > max_bytes:
            raise too_large(total, max_bytes)
        if group.num_rows:
            found.append(Group(number, group.num_rows, size // group.num_rows + 1))
    return found


def value_bytes(column: Any) -> int:
    """Bytes of one value of a stored column in memory."""
    if column.logical_type.type == "DECIMAL":
        return DECIMAL_BYTES
    return VALUE_BYTES.get(column.physical_type) or max(1, column.length)


def leaves(schema: Any, names: set[str]) -> list[int]:
    """The numbers of the stored columns of these columns."""
    found: list[int] = []
    first = 0
    for field in schema:
        count = _leaf_count(field.type)
        if field.name in names:
            found += range(first, first + count)
        first += count
    return found


def _leaf_count(type: Any) -> int:
    while isinstance(type, pa.BaseExtensionType):
        type = type.storage_type
    return sum(_leaf_count(type.field(place).type) for place in range(type.num_fields)) or 1
