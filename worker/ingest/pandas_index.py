"""The index of a pandas frame, which `DataFrame.to_parquet` stores as columns beside the others."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from service.datasets.layout import Declaration
from service.datasets.warnings import DataWarning
from worker.ingest.block import Array

METADATA = b"pandas"
# A pandas index of one level, as a rule; 8 bytes of each row are kept to tell whether it is unique.


def columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema that hold a stored index, one for each of its levels; none for a plain range."""
    try:
        described = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
        levels = described.get("index_columns", [])
        return [level for level in levels if isinstance(level, str) and level in schema.names]
    except (ValueError, AttributeError, TypeError):  # metadata of a stranger
        return []


def is_unique(texts: Iterable[list[str | None]]) -> bool:
    """Whether every row has a text of its own, told by 64 bits of each."""
    hashes: list[Array] = []
    for batch in texts:
        if None in batch:
            return False
        hashes.append(np.fromiter(map(hash, batch), np.int64, len(batch)))
    return all(len(np.unique(found)) == len(found) for found in [np.concatenate(hashes or [np.zeros(0)])])


def as_ids(declaration: Declaration, column: str) -> tuple[Declaration, DataWarning]:
    """The declaration with a unique index as the rows' ids."""
    detail = f"column {column!r} is the index of a pandas frame and unique: it gives the rows' ids"
    completed = declaration.model_copy(update={"ids": column})
    return completed, DataWarning("index_as_ids", f"{detail}; declare or ignore it for something else", column)


def ignored(declaration: Declaration, columns: list[str]) -> tuple[Declaration, list[DataWarning]]:
    """The declaration without the columns of an index."""
    what = "is the index of a pandas frame" if len(columns) == 1 else "is a level of the index of a pandas frame"
    advice = "declare it as ids, labels, split or a modality to keep it"
    warnings = [
        DataWarning("index_left_out", f"column {column!r} {what} and was left out; {advice}", column)
        for column in columns
    ]
    return declaration.model_copy(update={"ignore": [*declaration.ignore, *columns]}), warnings
