"""Reads a Parquet file, some rows of all columns at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets import exported_schema
from service.datasets.declaration import Declaration
from service.datasets.layout import TIME, DataWarning, PlannedModality
from service.shared.errors import BadInput, Fault, pointer
from worker.ingest import infer, pandas_index, parquet_groups
from worker.ingest import nested_arrow as arrow
from worker.ingest import nested_survey as surveys
from worker.ingest.block import BLOCK_BYTES, Block, ReadOptions
from worker.ingest.faults import no_value
from worker.ingest.nested import MAX_AXES
from worker.ingest.nested_blocks import Batch, Unpacker
from worker.ingest.nested_survey import Form, Scout
from worker.ingest.numbers import Numbers
from worker.ingest.parquet_groups import Group
from worker.ingest.roles import are_splits

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 32 * 1024**2
# Half a block: the copies of a batch fit the cache better than with a whole one, which is 10% slower.
BATCH_BYTES = BLOCK_BYTES // 2
MAX_BATCH_ROWS = 65_536


class ParquetSource:
    """A Parquet file: one column per modality. Raises BadInput for a file that cannot become a dataset."""

    def __init__(self, path: Path, declaration: Declaration, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        _check_ends(path)
        with _readable("not_parquet"):
            self._file = _opened(path)
        surveys.refuse_names(self._file.schema_arrow.names)
        schema = self._file.schema_arrow
        own = (schema.metadata or {}).get(exported_schema.KEY.encode())
        declaration, warnings = exported_schema.completed(declaration, own, schema.names)
        declaration, of_roles = exported_schema.with_known_columns(declaration, self._known(declaration))
        declaration, of_index = self._with_index(declaration)
        declaration, of_dates = infer.without_dates(declaration, self._dates(declaration))
        self.declaration = declaration
        self._roles = declaration.role_columns()
        self._forms = self._formed(declaration)
        self._timed = surveys.timed_in(self._forms, declaration)
        self._groups = self._checked([*self._forms, *self._role_names()])
        self._scouts = {name: Scout(name) for name in self._forms if not self._is_time(name)}
        self._survey(declaration)
        rows = sum(group.rows for group in self._groups)
        others = [name for name in self._file.schema_arrow.names if name not in self._forms]
        layout = surveys.settle(rows, self._forms, self._scouts, others, declaration, max_bytes)
        layout = replace(layout, warnings=(*warnings, *of_roles, *of_index, *of_dates, *layout.warnings))
        words = surveys.words(layout, self._scouts)
        self.layout = infer.completed(layout, declaration, self._numbers(infer.undecided(layout)), words)
        self.category_names: Mapping[str, tuple[int | str, ...]] = surveys.category_names(self.layout, self._scouts)
        self._unpacker = Unpacker(self.layout, self.category_names, self._timed, declaration, max_bytes)
        self._rows = rows

    def fraction(self) -> float:
        """The fraction of the rows that was read."""
        return self._unpacker.rows / self._rows

    def blocks(self) -> Iterator[Block]:
        """All rows. Raises BadInput if the file is damaged, or values do not fit one another."""
        with _readable("damaged_file", (pa.ArrowException, UnicodeDecodeError)):
            yield from self._unpacker.blocks(self._batches())

    def _known(self, declaration: Declaration) -> list[str]:
        """The columns that have the name of a role and fit it: ids, labels, and a split that names splits."""
        schema, found = self._file.schema_arrow, []
        for role, name in exported_schema.role_columns(declaration).items():
            if name not in schema.names or not _has_text(schema.field(name).type):
                continue
            if role != "split":
                found.append(name)
            elif arrow.is_text(schema.field(name).type):
                groups = self._checked([name])
                with _readable("damaged_file"):
                    words = {w for group in groups for b in self._read(group, [name]) for w in arrow.texts_of(b[name])}
                found += [name] if are_splits(words) else []
        return found

    def _dates(self, declaration: Declaration) -> list[str]:
        """The undeclared columns of dates that are not the times of another column."""
        schema = self._file.schema_arrow
        out = surveys.out_of_sight(declaration) | declaration.names().keys()
        out |= {name + TIME for name in surveys.timed_in(schema.names, declaration)}
        return [field.name for field in schema if field.name not in out and arrow.is_date(field.type)]

    def _numbers(self, modalities: Sequence[PlannedModality]) -> dict[str, Numbers]:
        """Figures about the numbers of these modalities, by column."""
        found = {modality.column: Numbers() for modality in modalities}
        for group in self._groups:
            for batch in self._read(group, list(found)) if found else ():
                with _readable("damaged_file"):
                    for name, numbers in found.items():
                        nested = arrow.nested_of(batch[name])
                        numbers.see(nested.values[nested.present(len(nested.levels))])
        return found

    def _with_index(self, declaration: Declaration) -> tuple[Declaration, list[DataWarning]]:
        """The declaration, completed with the undeclared index of a pandas frame: as ids if unique, else ignored."""
        schema = self._file.schema_arrow
        declared = declaration.left_out() | declaration.names().keys()
        levels = [name for name in pandas_index.columns(schema) if name not in declared]
        if len(levels) == 1 and declaration.ids is None and _has_text(schema.field(levels[0]).type):
            groups = self._checked(levels)
            texts = (arrow.texts_of(batch[levels[0]]) for group in groups for batch in self._read(group, levels))
            with _readable("damaged_file"):
                unique = pandas_index.is_unique(texts)
            if unique:
                completed, warning = pandas_index.as_ids(declaration, levels[0])
                return completed, [warning]
        return pandas_index.ignored(declaration, levels)

    def _checked(self, names: list[str]) -> list[Group]:
        """The row groups, after a check of what these columns hold. Raises BadInput."""
        with _readable("damaged_file"):
            return parquet_groups.groups(self._file.metadata, self._widths(names), self._max_bytes)

    def _formed(self, declaration: Declaration) -> dict[str, Form]:
        """The columns that may be modalities, and their times. Raises BadInput for other types."""
        schema = self._file.schema_arrow
        timed = surveys.timed_in(schema.names, declaration)
        out = surveys.out_of_sight(declaration)
        forms, faults = {}, []
        for field in schema:
            if field.name in out:
                continue
            is_time = field.name.endswith(TIME) and field.name.removesuffix(TIME) in timed
            form = arrow.form_of(field.type, is_time)
            if pa.types.is_null(arrow.leaf_of(field.type)):
                faults.append(no_value(field.name))
            elif form is None or len(form.extents) > MAX_AXES:
                faults.append(_unfit(field, f"numbers, texts, or up to {MAX_AXES} lists in lists of them; ignore it"))
            else:
                forms[field.name] = form
        for role, name in self._roles.items():
            if name in schema.names and not _has_text(schema.field(name).type):
                faults.append(
                    _unfit(schema.field(name), f"one text or number per row, because it is the column of {role}")
                )
        if faults:
            raise BadInput(faults[:100])
        return forms

    def _role_names(self) -> list[str]:
        return [name for name in self._roles.values() if name in self._file.schema_arrow.names]

    def _is_time(self, name: str) -> bool:
        return name.endswith(TIME) and name.removesuffix(TIME) in self._timed

    def _widths(self, names: list[str]) -> dict[int, int]:
        """Bytes of one value in memory, by the number of each stored column that is read."""
        stored, schema = self._file.metadata.schema, self._file.schema_arrow
        # Arrow selects by path: a column called "x.list.element" has the path of the items of the lists of "x".
        parts = [name.split(".") for name in names]
        outer = {".".join(steps[:count]) for steps in parts for count in range(1, len(steps))} & {*schema.names}
        read = {*names, *(name for name in outer if schema.field(name).type.num_fields)}
        columns = {place: stored.column(place) for place in parquet_groups.leaves(schema, read)}
        return {place: parquet_groups.value_bytes(column) for place, column in columns.items()}

    def _survey(self, declaration: Declaration) -> None:
        """Show the columns to their scouts until more rows would show nothing new."""
        kind = declaration.kind or ("sequence" if self._timed else None)
        shapes = {declaration.column_of(name): declared.shape for name, declared in declaration.modalities.items()}

        def unseen() -> list[str]:
            known = kind or ("sequence" if any(scout.differ for scout in self._scouts.values()) else None)
            return [
                name
                for name, scout in self._scouts.items()
                if not scout.is_done(self._forms[name], known, shapes.get(name))
            ]

        names = unseen()
        for group in self._groups:
            for batch in self._read(group, names) if names else ():
                with _readable("damaged_file"):
                    for name in names:
                        self._scouts[name].see(arrow.nested_of(batch[name]))
                if not unseen():
                    return
            names = unseen()

    def _batches(self) -> Iterator[Batch]:
        columns = [m.column for m in self.layout.modalities]
        columns += [name + TIME for name in columns if name in self._timed]
        for group in self._groups:
            for batch in self._read(group, [*columns, *self._role_names()]):
                with _readable("damaged_file"):
                    texts = {role: arrow.texts_of(batch[name]) for role, name in self._roles.items()}
                yield Batch(batch.num_rows, {name: batch[name] for name in columns}, texts)

    def _read(self, group: Group, names: list[str]) -> Iterator[Any]:
        """Record batches of a row group, of about BATCH_BYTES each."""
        size = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // group.row_bytes))
        rows = 0
        with _readable("damaged_file"):
            batches = self._file.iter_batches(size, row_groups=[group.number], columns=names, use_threads=False)
        while True:
            batch = None
            with _readable("damaged_file"), suppress(StopIteration):
                batch = next(batches)
            if batch is None:
                break
            rows += batch.num_rows
            yield batch
        if rows != group.rows:
            detail = f"the Parquet file is damaged: row group {group.number} has {rows} rows, expected {group.rows}"
            raise BadInput([Fault("", "damaged_file", detail)])


def read(path: Path, declaration: Declaration, options: ReadOptions) -> ParquetSource:
    """Open a Parquet file. Raises BadInput for one that cannot become a dataset."""
    return ParquetSource(path, declaration, options.max_bytes)


def _check_ends(path: Path) -> None:
    """Raise BadInput for a file without the magic of Parquet, or with an impossible footer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, size - 8))
        length, tail = int.from_bytes(file.read(4), "little"), file.read(4)
    if head == MAGIC and tail == b"PARE":
        raise BadInput([Fault("", "not_parquet", "the Parquet file is encrypted, expected one that anyone can read")])
    if size < 12 or head != MAGIC or tail != MAGIC:
        detail = f"the file begins with {head!r} and ends with {tail!r}, expected {MAGIC!r} at both ends of Parquet"
        raise BadInput([Fault("", "not_parquet", detail)])
    if not 0 < length <= min(size - 12, MAX_FOOTER_BYTES):
        detail = f"the footer announces {length} bytes in a file of {size}, expected at most {MAX_FOOTER_BYTES}"
        raise BadInput([Fault("", "damaged_file", detail)])


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file. Texts stay dictionary-encoded: a short page can repeat a long text many times."""
    file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    schema = file.schema_arrow
    texts = {field.name for field in schema if arrow.is_text(arrow.leaf_of(field.type))}
    places = parquet_groups.leaves(schema, texts)
    if not places:
        return file
    paths = [file.metadata.schema.column(place).path for place in places]
    return pq.ParquetFile(path, metadata=file.metadata, memory_map=True, pre_buffer=False, read_dictionary=paths)


def _has_text(type: Any) -> bool:
    """Whether the value of a row can be written as a text: no list, no struct, no bytes."""
    type = arrow.leaf_of(type) if isinstance(type, pa.BaseExtensionType) else type
    binary = pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_fixed_size_binary(type)
    return not type.num_fields and not binary


def _unfit(field: Any, expected: str) -> Fault:
    return Fault(
        pointer(field.name), "unknown_type", f"column {field.name!r} is {str(field.type)[:200]}, expected {expected}"
    )


@contextmanager
def _readable(code: str, errors: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Turn errors of the library into BadInput. A MemoryError passes: it says nothing about the bytes."""
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except errors as error:
        detail = "the Parquet file is damaged: its metadata or pages cannot be read; write it again"
        raise BadInput([Fault("", code, detail)]) from error
