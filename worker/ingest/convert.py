"""Converts a source: checks every block, aligns sequences on common steps, computes statistics and writes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.config import default_likelihood
from models.config.likelihood import find
from service.datasets.layout import DataWarning, PlannedModality
from service.shared.errors import BadInput, Fault, pointer
from service.shared.samples import ModalitySchema, Samples, Schema, Writer
from worker.ingest import grid, infer
from worker.ingest.block import Array, Block, Column, Source
from worker.ingest.check import Checker
from worker.ingest.empty_rows import EmptyRows
from worker.ingest.faults import Faults, no_value
from worker.ingest.roles import Splits
from worker.ingest.size import NO_LIMITS, Limits, StoredSize
from worker.ingest.statistics import Statistics


class Converted(NamedTuple):
    """A dataset that was written."""

    rows: int
    schema: Schema
    statistics: dict[str, Any]
    warnings: Sequence[DataWarning]


def convert(
    source: Source, faults: Faults, path: Path, on_block: Callable[[float], None], limits: Limits = NO_LIMITS
) -> Converted:
    """Write the stored form of a source to `path`. on_block receives the fraction that is done, from 0 to 1.

    Raises BadInput with up to 100 faults, each with modality, row, step, what came and what was expected.
    """
    conversion = _Conversion(source, faults, limits)
    with Writer(path) as writer:
        for block in source.blocks():
            for piece in conversion.pieces(block):
                if not faults:
                    writer.add(piece)
            on_block(source.fraction())
        if not conversion.rows and not faults:
            detail = "no row of the file has a value of any modality, expected at least one row that has one"
            faults.add(Fault("", "no_rows", detail))
        faults.raise_if_any()
        conversion.refuse_absent()
        converted = conversion.describe()
        writer.finish(converted.schema, converted.rows)
    return converted


class _Conversion:
    """The state of a conversion: what the blocks so far have shown."""

    def __init__(self, source: Source, faults: Faults, limits: Limits) -> None:
        self._declaration = declaration = source.declaration
        self.rows = 0
        self._layout = source.layout
        self._names = source.category_names
        self._step_seconds = declaration.step_seconds if source.layout.kind == "sequence" else None
        self._timed = False
        self._faults = faults
        self._size = StoredSize(source.layout, limits)
        self._splits = Splits(declaration)
        self._statistics = Statistics()
        self._empty_rows = EmptyRows()
        self._floats = infer.floats(self._layout, declaration)
        self._checkers = {
            modality.name: Checker(modality, declaration.nan == "missing", self._names.get(modality.name))
            for modality in source.layout.modalities
        }
        # the schema of the pieces: the number of categories and the likelihood are only known at the end
        self._provisional = Schema(
            kind=source.layout.kind, modalities=tuple(_schema(m, m.categories) for m in source.layout.modalities)
        )

    def pieces(self, block: Block) -> Iterator[Samples]:
        """The block in stored form, in pieces of some rows. Adds a fault for every bad value."""
        columns = {
            name: checker.check(block.columns[name], block.first_row, self._faults)
            for name, checker in self._checkers.items()
        }
        block = Block(block.first_row, block.rows, columns, block.ids, block.labels, block.splits)
        splits = self._splits.of(block, self._faults)
        plan, lengths = None, np.ones(block.rows, np.int64)
        if self._layout.kind == "sequence":
            self._know_times(columns)
            plan = grid.plan(block, self._step_seconds if self._timed else None, self._faults)
            lengths = plan.lengths
        for first, last in self._size.cuts(block, lengths):
            part = slice(first, last)
            values, present, offsets = grid.pack(block, plan, first, last) if plan else _static(columns, part)
            piece = Samples(
                self._provisional,
                last - first,
                values,
                present,
                offsets,
                None if splits is None else splits[part],
                None if block.ids is None else block.ids[part],
                None if block.labels is None else block.labels[part],
            )
            self._refuse_mean_counts(piece)
            piece = self._empty_rows.left_out_of(piece, block.first_row + first)
            self.rows += piece.rows
            if not self._faults:
                self._count(piece)
            yield piece

    def _count(self, piece: Samples) -> None:
        self._statistics.add(piece)
        for name, numbers in self._floats.items():
            if numbers.whole:
                numbers.see(piece.values[name][piece.present[name].astype(bool)])

    def refuse_absent(self) -> None:
        """Raise BadInput for modalities that are absent in every row: a model could learn nothing about them."""
        for modality in self._layout.modalities:
            if not self._statistics.is_present(modality.name):
                self._faults.add(no_value(modality.column))
        self._faults.raise_if_any()

    def describe(self) -> Converted:
        """The dataset after the last block: schema, statistics and warnings."""
        sizes = {m.name: self._categories(m) for m in self._layout.modalities if m.dtype == "int64"}
        nan = {name: checker.nan for name, checker in self._checkers.items()}
        statistics = self._statistics.describe(sizes, nan) | {"empty_rows": self._empty_rows.count}
        modalities = []
        for modality in self._layout.modalities:
            described = _schema(modality, sizes.get(modality.name))
            figures = statistics["modalities"][modality.name]
            # The mean of the readings of a step need not be whole; that of zeros and ones is a probability.
            integral = modality.integral and not (self._timed and figures.get("maximum", 0) > 1)
            figures = {**figures, "integral": integral}
            likelihood = modality.likelihood or default_likelihood(described.dtype, described.categories, figures)
            names = self._names.get(modality.name)
            modalities.append(described.model_copy(update={"likelihood": likelihood, "category_names": names}))
        schema = Schema(kind=self._layout.kind, modalities=tuple(modalities), step_seconds=self._step_seconds)
        constants = infer.constants(self._layout, self._declaration, statistics["modalities"])
        doubts = infer.doubts(self._layout, self._floats)
        warnings = [*self._layout.warnings, *constants, *doubts, *self._empty_rows.warnings()]
        return Converted(self.rows, schema, statistics, warnings)

    def _categories(self, modality: PlannedModality) -> int:
        names = self._names.get(modality.name, ())
        return modality.categories or max(2, len(names), self._statistics.categories(modality.name))

    def _know_times(self, columns: dict[str, Column]) -> None:
        """Check that either all modalities have times, and step_seconds is declared, or none has times."""
        timed = [name for name, column in columns.items() if column.times is not None]
        if self._step_seconds is None and timed:
            detail = f"{timed[0]}.time gives times, but the declaration has no step_seconds"
            raise BadInput([Fault("/schema/step_seconds", "no_step_seconds", detail)])
        self._timed = bool(timed)
        if self._timed and (untimed := sorted({*columns} - {*timed})):
            detail = f"{', '.join(untimed)} have no times, expected NAME.time for each beside step_seconds"
            raise BadInput([Fault("/schema/step_seconds", "no_times", detail)])

    def _refuse_mean_counts(self, piece: Samples) -> None:
        """Raise BadInput if counts were declared and the mean of the readings of a step is not a whole number."""
        for modality in self._layout.modalities if self._timed else ():
            values = piece.values[modality.name][piece.present[modality.name].astype(bool)]
            whole = modality.likelihood is not None and find(modality.likelihood).support.whole
            if whole and (values != np.floor(values)).any():
                detail = f"{modality.name!r} is declared {modality.likelihood}, and the mean of several readings in a "
                detail += "time step is no whole number; declare another likelihood, or a smaller step_seconds"
                place = pointer("schema", "modalities", modality.name, "likelihood")
                raise BadInput([Fault(place, "not_counts", detail)])


def _static(columns: dict[str, Column], part: slice) -> tuple[dict[str, Array], dict[str, Array], None]:
    values = {name: column.values[part] for name, column in columns.items()}
    return values, {name: column.present[part] for name, column in columns.items()}, None


def _schema(modality: PlannedModality, categories: int | None) -> ModalitySchema:
    return ModalitySchema(
        name=modality.name, shape=modality.shape, dtype=modality.dtype, categories=categories, units=modality.units
    )
