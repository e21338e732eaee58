"""Reads JSON Lines: one object per line, one line per sample; the keys are the columns."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from models.config.wording import shown
from service.datasets import exported_schema
from service.datasets.declaration import Declaration
from service.datasets.layout import TIME
from service.shared import json_syntax
from service.shared.errors import BadInput, Fault
from worker.ingest import infer
from worker.ingest import nested_survey as surveys
from worker.ingest.block import BLOCK_BYTES, Block, ReadOptions
from worker.ingest.faults import no_value
from worker.ingest.json_column import JsonColumn, texts_of
from worker.ingest.nested_arrow import nested_of
from worker.ingest.nested_blocks import Batch, Unpacker
from worker.ingest.nested_survey import Scout
from worker.ingest.numbers import Numbers
from worker.ingest.roles import are_splits

# Numbers in memory take up to 16 times the bytes that they have in the file.
MAX_LINE_BYTES = 64 * 1024**2
BATCH_BYTES = BLOCK_BYTES // 4
MAX_BATCH_ROWS = 8192


class _Lines(NamedTuple):
    first_row: int
    objects: Sequence[Mapping[str, Any]]

    def column(self, name: str) -> list[Any]:
        return [line.get(name) for line in self.objects]


class JsonLinesSource:
    """A JSON Lines file. It is read twice: for the types of its columns, then for their values."""

    def __init__(self, path: Path, declaration: Declaration, max_bytes: int) -> None:
        self._path = path
        first = _first_row(path)
        declaration, warnings = exported_schema.completed(
            declaration, first.pop(exported_schema.KEY, None), first.keys()
        )
        self._max_bytes = max_bytes
        self._size = path.stat().st_size
        self._done = 0
        self._columns: dict[str, JsonColumn] = {}
        self._numbers: dict[str, Numbers] = {}
        known = exported_schema.role_columns(declaration)
        unread = {column for role, column in known.items() if role != "split"}
        scouts, others, rows = self._survey(surveys.out_of_sight(declaration) | unread)
        if (split := known.get("split")) in scouts and self._is_split(scouts[split]):
            others.append(split)
            del scouts[split], self._columns[split]
        declaration, of_roles = exported_schema.with_known_columns(declaration, others)
        self.declaration = declaration
        self._roles = declaration.role_columns()
        forms, faults = {}, []
        for name, column in self._columns.items():
            if form := column.form():
                forms[name] = form
            else:
                faults.append(no_value(name))
        if faults:
            raise BadInput(faults[:100])
        self._timed = surveys.timed_in(forms, declaration)
        layout = surveys.settle(rows, forms, scouts, others, declaration, max_bytes)
        layout = replace(layout, warnings=(*warnings, *of_roles, *layout.warnings))
        self.layout = infer.completed(layout, declaration, self._numbers, surveys.words(layout, scouts))
        self.category_names: Mapping[str, tuple[int | str, ...]] = surveys.category_names(self.layout, scouts)
        self._unpacker = Unpacker(self.layout, self.category_names, self._timed, declaration, max_bytes)

    def fraction(self) -> float:
        """The fraction of the bytes that was read."""
        return self._done / self._size

    def blocks(self) -> Iterator[Block]:
        """All rows. Raises BadInput if values do not fit one another."""
        return self._unpacker.blocks(self._batches())

    def _survey(self, out: set[str]) -> tuple[dict[str, Scout], list[str], int]:
        """The scout of every column, the names of the columns that are left out, and the number of rows."""
        scouts: dict[str, Scout] = {}
        others: dict[str, None] = {}
        rows = 0
        for lines in self._read():
            rows = lines.first_row + len(lines.objects)
            if rows * len(scouts) > self._max_bytes:  # absent values are stored too
                raise surveys.too_large(rows * len(scouts), self._max_bytes)
            names = dict.fromkeys(name for line in lines.objects for name in line)
            others.update(dict.fromkeys(name for name in names if name in out))
            new = [name for name in names if name not in out and name not in scouts]
            surveys.refuse_names([*scouts, *others, *new])
            for name in new:
                scouts[name], self._columns[name], self._numbers[name] = Scout(name), JsonColumn(name), Numbers()
            for name, scout in scouts.items():
                values = lines.column(name)
                self._columns[name].see(values, lines.first_row)
                nested = nested_of(self._columns[name].array(values))
                scout.see(nested)
                if len(nested.levels) < 2 and nested.values.dtype.kind in "ifb":  # one value per row or step
                    self._numbers[name].see(nested.values[nested.present(len(nested.levels))])
        return scouts, list(others), rows

    def _is_split(self, scout: Scout) -> bool:
        form = self._columns[scout.name].form()
        return form is not None and form.kind == "text" and not form.extents and are_splits(scout.names)

    def _batches(self) -> Iterator[Batch]:
        names = [modality.column for modality in self.layout.modalities]
        names += [name + TIME for name in names if name in self._timed]
        for lines in self._read():
            columns = {name: self._columns[name].array(lines.column(name)) for name in names}
            texts = {role: texts_of(name, lines.column(name), lines.first_row) for role, name in self._roles.items()}
            yield Batch(len(lines.objects), columns, texts)

    def _read(self) -> Iterator[_Lines]:
        """All lines, in batches. Raises BadInput for a line that is no object."""
        row = 0
        with _opened(self._path) as file:
            while objects := _objects(file, row):
                self._done = file.tell()
                yield _Lines(row, objects)
                row += len(objects)


def read(path: Path, declaration: Declaration, options: ReadOptions) -> JsonLinesSource:
    """Open a JSON Lines file. Raises BadInput for one that cannot become a dataset."""
    return JsonLinesSource(path, declaration, options.max_bytes)


def _opened(path: Path) -> BinaryIO:
    """The open file, positioned after its byte order mark, if it has one."""
    file = path.open("rb")
    if file.read(len(BOM_UTF8)) != BOM_UTF8:
        file.seek(0)
    return file


def _first_row(path: Path) -> dict[str, Any]:
    """A copy of the first object, or an empty one if the file has none."""
    with _opened(path) as file:
        line = file.readline(MAX_LINE_BYTES + 1)
    return _parsed(line, 0) if len(line) <= MAX_LINE_BYTES and line.strip() else {}


def _objects(file: BinaryIO, row: int) -> list[dict[str, Any]]:
    """The objects of the next lines, about BATCH_BYTES of text; none at the end."""
    objects: list[dict[str, Any]] = []
    size = 0
    while size < BATCH_BYTES and len(objects) < MAX_BATCH_ROWS:
        line = file.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise _unfit(row + len(objects), f"has more than {MAX_LINE_BYTES} bytes", "a shorter line")
        if not line.strip():
            _refuse_more(file, row + len(objects))
            break
        parsed = _parsed(line, row + len(objects))
        parsed.pop(exported_schema.KEY, None)
        objects.append(parsed)
        size += len(line)
    return objects


def _refuse_more(file: BinaryIO, row: int) -> None:
    """Refuse lines after an empty one: only then is the number of a row the number of its line."""
    while line := file.readline(MAX_LINE_BYTES):
        if line.strip():
            raise _unfit(row, "is empty", "an object; only the end of the file may have empty lines")


def _parsed(line: bytes, row: int) -> dict[str, Any]:
    try:
        if line.startswith(BOM_UTF8):
            raise Unusual("it begins with a byte order mark, which only a file may")
        found = _DECODER.decode(line.decode())
    except RecursionError as error:
        raise _unfit(row, "is nested too deep", "an object of values and short lists") from error
    except ValueError as error:  # of JSON, and of UTF-8
        raise _unfit(row, f"is not JSON ({_why(error)})", "one object per line") from error
    if not isinstance(found, dict):
        raise _unfit(row, f"is {shown(found)}", "an object")
    return found


class Unusual(ValueError):
    """JSON that Python's parser accepts and this reader refuses."""


def _why(error: ValueError) -> str:
    """Why a line is refused, in our words."""
    if isinstance(error, json.JSONDecodeError):
        return json_syntax.reason(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error) if isinstance(error, Unusual) else "a number is too long"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unusual("a key is repeated")
    return found


def _refused(word: str) -> None:
    raise Unusual(f"{word} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused)


def _unfit(row: int, came: str, expected: str) -> BadInput:
    return BadInput([Fault("", "bad_line", f"line {row + 1} (row {row}) {came}, expected {expected}")])
