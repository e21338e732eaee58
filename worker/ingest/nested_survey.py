"""Finds the kind and the shapes of nested columns, from their types or first values, and the names of categories."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.datasets import layout as layouts
from service.datasets.declaration import MAX_CATEGORIES, Declaration, Kind
from service.datasets.layout import TIME, ColumnKind, Layout
from service.shared.errors import BadInput, Fault, pointer
from worker.ingest.faults import Faults, no_value
from worker.ingest.infer import Words
from worker.ingest.nested import Nested, bytes_of

MAX_COLUMNS = 1000
MAX_NAME_CHARACTERS = 200
# A row is in memory as a whole, together with the form it was read from.
MAX_ROW_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Form:
    """The form of a column by its type. extents: of the lists from the outermost in, None if the values decide."""

    extents: tuple[int | None, ...]
    kind: ColumnKind
    has_time: bool = True
    """Whether the first axis can be time; that of a tensor cannot."""


class Scout:
    """Collects what the type of a column leaves open: shapes, whether lengths differ, names of categories."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.differ = False
        """Whether the outermost lists have different lengths."""
        self.names: set[str] = set()
        self.texts = 0
        """The number of texts, counted with repetition."""
        self._outer: int | None = None
        self._shapes: list[tuple[int, ...] | None] = [None, None]

    def see(self, nested: Nested) -> None:
        """Look at some more rows. Raises BadInput for texts that cannot be categories."""
        self._see_names(nested.words)
        if nested.words:
            self.texts += int(nested.present(len(nested.levels)).sum())
        if nested.levels:
            lengths = nested.levels[0].lengths[nested.levels[0].given]
            if len(lengths):
                self._outer = int(lengths[0]) if self._outer is None else self._outer
                self.differ = self.differ or bool((lengths != self._outer).any())
        for axis, found in enumerate(self._shapes):
            if len(found or ()) != len(nested.levels) - axis:  # JSON shows the depth of lists only with their values
                self._shapes[axis] = nested.extents(axis)

    def shape(self, form: Form, kind: Kind, declared: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The shape of one value or time step: declared, by type, or of the first value; None if none has a value."""
        axis = 1 if kind == "sequence" else 0
        extents = form.extents[axis:]
        if declared and len(declared) == len(extents):
            fits = all(extent in (None, asked) for extent, asked in zip(extents, declared, strict=True))
            if fits:
                return declared
        fixed = tuple(extent for extent in extents if extent is not None)
        if len(fixed) == len(extents):
            return fixed
        found = self._shapes[axis]
        return found if found and len(found) == len(extents) else None

    def is_done(self, form: Form, kind: Kind | None, declared: tuple[int, ...] | None) -> bool:
        """Whether more rows would show nothing new. kind: None if it is not known yet."""
        if form.kind == "text":
            return False
        if kind is None and not self.differ and form.has_time and form.extents[:1] == (None,):
            return False
        both: tuple[Kind, ...] = ("sequence", "static")
        return all(self.shape(form, one, declared) is not None for one in ((kind,) if kind else both))

    def _see_names(self, words: Sequence[str]) -> None:
        self.names.update(words)
        longest = max(words, key=len, default="")
        if len(longest) > MAX_NAME_CHARACTERS:
            detail = f"{self.name!r} holds a text of {len(longest)} letters, expected a category's name of at most "
            detail += f"{MAX_NAME_CHARACTERS}; ignore the column, or declare it as ids or labels"
            raise BadInput([Fault(pointer(self.name), "not_a_category", detail)])
        if len(self.names) > MAX_CATEGORIES:
            detail = f"{self.name!r} holds more than {MAX_CATEGORIES} different texts; ignore it, or declare it as ids"
            raise BadInput([Fault(pointer(self.name), "too_many_categories", detail)])


def out_of_sight(declaration: Declaration) -> set[str]:
    """The columns that are no modality, and the times of ignored columns."""
    times = {name + TIME for name in declaration.ignore} - declaration.names().keys()
    return declaration.left_out() | times


def timed_in(names: Sequence[str] | Mapping[str, object], declaration: Declaration) -> set[str]:
    """The columns that have a column of times."""
    left_out = declaration.left_out()
    own = left_out | declaration.names().keys()
    return {name.removesuffix(TIME) for name in names if name.endswith(TIME) and name not in own} - left_out


def refuse_names(names: Sequence[str]) -> None:
    """Raise BadInput for too many names, a name that is too long, and duplicate names."""
    if len(names) > MAX_COLUMNS:
        detail = f"the file has {len(names)} columns or more, expected at most {MAX_COLUMNS}"
        raise BadInput([Fault("", "too_many_columns", detail)])
    for name in names:
        if len(name) > MAX_NAME_CHARACTERS:
            detail = f"column name {name[:100]!r}… has {len(name)} letters, expected at most {MAX_NAME_CHARACTERS}"
            raise BadInput([Fault("", "bad_name", detail)])
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise BadInput(
            [
                Fault(
                    pointer(twice[0]),
                    "duplicate_column",
                    f"the file has column {twice[0]!r} twice, expected unique names; rename one",
                )
            ]
        )


def kind_of(scouts: Mapping[str, Scout], timed: set[str], declaration: Declaration) -> Kind:
    """The declared kind; else sequences if there are times, or outermost lists of different lengths."""
    if declaration.kind:
        return declaration.kind
    return "sequence" if timed or any(scout.differ for scout in scouts.values()) else "static"


def settle(
    rows: int,
    forms: Mapping[str, Form],
    scouts: Mapping[str, Scout],
    others: Sequence[str],
    declaration: Declaration,
    max_bytes: int,
) -> Layout:
    """The layout of the surveyed columns. others: the columns of the file that are no modality.

    Raises BadInput for columns that do not fit together, and for values that would be too large.
    """
    if not rows:
        raise BadInput([Fault("", "no_rows", "the file has no rows, expected at least one")])
    timed = timed_in(forms, declaration)
    kind = kind_of(scouts, timed, declaration)
    faults = [*_unfit_times(kind, forms, timed)]
    columns = [layouts.Column(name, (), "text") for name in others]
    names = declaration.names()
    for name, form in forms.items():
        if name.removesuffix(TIME) in timed and name.endswith(TIME):
            continue
        declared = declaration.modalities.get(names.get(name, name))
        shape = scouts[name].shape(form, kind, declared.shape if declared else None)
        if kind == "sequence" and not (form.extents and form.has_time):
            what = "tensors" if form.extents else "single values"
            detail = f"{name!r} holds {what} in a dataset of sequences, expected lists of them, one for each time step"
            faults.append(Fault(pointer(name), "not_a_sequence", detail))
        elif shape is None:
            faults.append(no_value(name))
        else:
            columns.append(layouts.Column(name, shape, form.kind))
    if faults:
        raise BadInput(faults[: layouts.MAX_FAULTS])
    settled = layouts.settle(kind, rows, columns, declaration)
    _refuse_large(settled, rows, max_bytes)
    return settled


def words(layout: Layout, scouts: Mapping[str, Scout]) -> dict[str, Words]:
    """The texts of the text columns, by column."""
    seen = {modality.column: scouts[modality.column] for modality in layout.modalities if modality.text}
    return {column: Words(scout.names, scout.texts) for column, scout in seen.items()}


def category_names(layout: Layout, scouts: Mapping[str, Scout]) -> dict[str, tuple[int | str, ...]]:
    """The names of categories by modality: the declared names, else the sorted texts that occur.

    Raises BadInput for texts that are not among the declared names.
    """
    faults = Faults()
    found = {}
    for modality in layout.modalities:
        if modality.category_names is not None:
            found[modality.name] = modality.category_names
        elif modality.text:
            found[modality.name] = tuple(sorted(scouts[modality.column].names))
        if modality.text:
            for word in sorted(scouts[modality.column].names - {*found[modality.name]})[: faults.room()]:
                detail = f"{modality.column!r} holds {word!r}, which is none of the declared category_names; add it"
                faults.add(Fault(pointer(modality.column), "not_a_category", detail))
    faults.raise_if_any()
    return found


def too_large(size: int, max_bytes: int) -> BadInput:
    """The fault of a file whose values have more than max_bytes."""
    detail = f"the values have {size} bytes or more, expected at most {max_bytes}"
    return BadInput([Fault("", "too_large", detail)])


def _unfit_times(kind: Kind, forms: Mapping[str, Form], timed: set[str]) -> Iterator[Fault]:
    for base in sorted(timed):
        name, form = base + TIME, forms[base + TIME]
        if base not in forms:
            yield Fault(pointer(name), "unknown_column", f"{name!r} describes {base!r}, which the file lacks")
        elif kind == "static":
            detail = f"{name!r} gives times, but the dataset is static; declare kind: sequence"
            yield Fault(pointer(name), "bad_times", detail)
        elif len(form.extents) != 1 or form.kind not in ("float", "decimal", "integer"):
            detail = f"{name!r} holds {form.kind} in {len(form.extents)} lists around it, expected lists of seconds"
            yield Fault(pointer(name), "bad_times", detail)


def _refuse_large(layout: Layout, rows: int, max_bytes: int) -> None:
    size = sum(bytes_of(modality.shape, modality.dtype) for modality in layout.modalities)
    if size > MAX_ROW_BYTES:
        detail = f"a row or time step has {size} bytes of values, expected at most {MAX_ROW_BYTES}"
        raise BadInput([Fault("", "too_large", detail)])
    if layout.kind == "static" and rows * size > max_bytes:
        raise too_large(rows * size, max_bytes)
