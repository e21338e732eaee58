"""The schema and column names in a downloaded file. With them, an upload of the file creates the same dataset."""

import json
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from models.config import likelihood as likelihoods
from service.datasets.declaration import Declaration, DeclaredModality, SplitColumn
from service.datasets.layout import DataWarning
from service.shared.errors import BadInput, Fault, pointer
from service.shared.samples import ModalitySchema, Samples

KEY = "sensorium.schema"
"""The name of the schema: an array of an .npz file, an entry of Parquet's metadata, a key of the first JSON line."""
MAX_BYTES = 16 * 1024**2

# The columns of ids, labels and splits in downloads; underscores are appended to a name that a modality has.
IDS, LABELS, SPLIT = "row_id", "row_label", "split"
_WHAT = {"ids": "the rows' ids", "labels": "the rows' labels", "split": "the rows' split"}


def of(samples: Samples, ids: str, labels: str, split: str) -> Declaration:
    """The declaration of a file with these samples. ids, labels, split: the names of their columns."""
    return Declaration(
        kind=samples.schema.kind,
        modalities={modality.name: _declared(modality) for modality in samples.schema.modalities},
        ids=None if samples.ids is None else ids,
        labels=None if samples.labels is None else labels,
        split=None if samples.splits is None else SplitColumn(column=split),
        step_seconds=samples.schema.step_seconds,
    )


def to_json(declaration: Declaration) -> str:
    """The schema as the file contains it."""
    return declaration.model_dump_json(exclude_defaults=True)


def completed(
    declared: Declaration, file_schema: str | bytes | dict[str, Any] | None, columns: Collection[str]
) -> tuple[Declaration, list[DataWarning]]:
    """The caller's declaration, completed with the schema of the file. The declaration of a column takes precedence.

    file_schema: the schema in the file, or None. columns: the columns of the file.
    Raises BadInput for an invalid schema.
    """
    if file_schema is None:
        return declared, []
    stored = _read(file_schema)
    used = declared.left_out() | declared.names().keys()
    free = {column for column in columns if column not in used}
    kind = declared.kind or stored.kind
    changes: dict[str, Any] = {
        "kind": kind,
        "modalities": {**declared.modalities, **_modalities(declared, stored, free)},
    }
    changes |= {
        role: getattr(stored, role)
        for role in ("ids", "labels")
        if getattr(declared, role) is None and getattr(stored, role) in free
    }
    if declared.split is None and isinstance(stored.split, SplitColumn) and stored.split.column in free:
        changes["split"] = stored.split
    if declared.step_seconds is None and kind == "sequence":
        changes["step_seconds"] = stored.step_seconds
    detail = f"the file carries the schema of a dataset it was downloaded from ({KEY}); it completes the declaration"
    return declared.model_copy(update=changes), [DataWarning("own_schema", detail)]


def role_columns(declaration: Declaration) -> dict[str, str]:
    """The column name of downloads for each role that is not declared."""
    used = declaration.left_out() | declaration.names().keys()
    names = {}
    for role, name in (("ids", IDS), ("labels", LABELS), ("split", SPLIT)):
        while name in declaration.modalities:  # downloads rename it in the same way
            name += "_"
        if getattr(declaration, role) is None and name not in used:
            names[role] = name
    return names


def with_known_columns(declaration: Declaration, columns: Collection[str]) -> tuple[Declaration, list[DataWarning]]:
    """The declaration, completed with the roles of the columns that have such a name."""
    columns_by_role = {role: column for role, column in role_columns(declaration).items() if column in columns}
    changes = {role: SplitColumn(column=name) if role == "split" else name for role, name in columns_by_role.items()}
    warnings = [
        DataWarning(
            f"read_as_{role}",
            f"column {name!r} was read as {_WHAT[role]}, as in downloads; declare it in modalities to make it one",
            name,
        )
        for role, name in columns_by_role.items()
    ]
    return declaration.model_copy(update=changes), warnings


def _modalities(declared: Declaration, stored: Declaration, free: set[str]) -> dict[str, DeclaredModality]:
    """The modalities of the file's schema. The caller's description of a column replaces the one of the file."""
    modalities = {}
    for column, name in stored.names().items():
        of_caller, of_file = declared.modalities.get(name), stored.modalities[name]
        if column in free and of_caller is None:
            modalities[name] = of_file
        elif of_caller is not None and declared.column_of(name) == column:
            describes = of_caller.model_copy(update={"units": None, "column": None}) != DeclaredModality()
            chosen = of_caller if describes else of_file.model_copy(update={"column": of_caller.column})
            modalities[name] = chosen.model_copy(
                update={"units": of_caller.units if of_caller.units is not None else of_file.units}
            )
    return modalities


def _read(file_schema: str | bytes | dict[str, Any]) -> Declaration:
    try:
        return Declaration.model_validate(
            json.loads(file_schema) if isinstance(file_schema, str | bytes) else file_schema
        )
    except ValidationError as error:
        steps = error.errors()[0]["loc"]
        where = f" at {pointer(*steps)}" if steps else ""
        detail = f"the file carries a schema ({KEY}) that is not valid{where}; download the file again, or remove it"
        raise BadInput([Fault(pointer(KEY, *steps), "bad_own_schema", detail)]) from error
    except (ValueError, RecursionError) as error:
        detail = f"the file carries a schema ({KEY}) that is not JSON; download the file again, or remove it"
        raise BadInput([Fault(pointer(KEY), "bad_own_schema", detail)]) from error


def _declared(modality: ModalitySchema) -> DeclaredModality:
    likelihood = modality.likelihood
    if likelihood not in likelihoods.names() or likelihoods.find(likelihood).dtype != modality.dtype:
        likelihood = None  # no longer installed, or not usable with this dtype
    return DeclaredModality(
        dtype=modality.dtype,
        categories=modality.categories,
        category_names=modality.category_names,
        units=modality.units,
        likelihood=likelihood,
    )
