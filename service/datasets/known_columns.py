"""Columns that are called as downloads call what rides along have that role, where nothing else is declared of them."""

from collections.abc import Collection

from service.datasets.conversion_warnings import DataWarning
from service.datasets.export.row_chunks import IDS, LABELS, SPLIT
from service.datasets.layout import Declaration
from service.datasets.split import SplitColumn

_WHAT = {"ids": "the rows' ids", "labels": "the rows' labels", "split": "the rows' split"}


def wanted(declaration: Declaration) -> dict[str, str]:
    """The column that gives each role of which nothing was declared, if the file has it."""
    taken = declaration.left_out() | declaration.names().keys()
    found = {}
    for role, name in (("ids", IDS), ("labels", LABELS), ("split", SPLIT)):
        while name in declaration.modalities:  # as downloads do
            name += "_"
        if getattr(declaration, role) is None and name not in taken:
            found[role] = name
    return found


def completed(declaration: Declaration, columns: Collection[str]) -> tuple[Declaration, list[DataWarning]]:
    """The declaration with the roles of those of these columns that have a known name."""
    found = {role: column for role, column in wanted(declaration).items() if column in columns}
    changes = {role: SplitColumn(column=name) if role == "split" else name for role, name in found.items()}
    warnings = [
        DataWarning(
            f"read_as_{role}",
            f"column {name!r} was read as {_WHAT[role]}, as in downloads; declare it in modalities to make it one",
            name,
        )
        for role, name in found.items()
    ]
    return declaration.model_copy(update=changes), warnings
