"""The index of a pandas frame, which `DataFrame.to_parquet` stores as columns beside the others."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from service.datasets.declaration import Declaration
from service.datasets.layout import DataWarning
from worker.ingest.block import Array

METADATA = b"pandas"


def columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema that store an index, one per level; none for a range index."""
    try:
        described = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
        levels = described.get("index_columns", [])
        return [level for level in levels if isinstance(level, str) and level in schema.names]
    except (ValueError, AttributeError, TypeError):  # the metadata may be anything
        return []


def is_unique(texts: Iterable[list[str | None]]) -> bool:
    """Whether all texts differ and none is missing. Compares 64-bit hashes, to keep 8 bytes per row."""
    hashes: list[Array] = []
    for batch in texts:
        if None in batch:
            return False
        hashes.append(np.fromiter(map(hash, batch), np.int64, len(batch)))
    return all(len(np.unique(found)) == len(found) for found in [np.concatenate(hashes or [np.zeros(0)])])


def as_ids(declaration: Declaration, column: str) -> tuple[Declaration, DataWarning]:
    """The declaration with a unique index as ids, and a warning about it."""
    detail = f"column {column!r} is the index of a pandas frame and unique: it gives the rows' ids"
    completed = declaration.model_copy(update={"ids": column})
    return completed, DataWarning("index_as_ids", f"{detail}; declare or ignore it for something else", column)


def ignored(declaration: Declaration, columns: list[str]) -> tuple[Declaration, list[DataWarning]]:
    """The declaration with the columns of an index ignored, and a warning about each."""
    what = "is the index of a pandas frame" if len(columns) == 1 else "is a level of the index of a pandas frame"
    advice = "declare it as ids, labels, split or a modality to keep it"
    warnings = [
        DataWarning("index_left_out", f"column {column!r} {what} and was left out; {advice}", column)
        for column in columns
    ]
    return declaration.model_copy(update={"ignore": [*declaration.ignore, *columns]}), warnings
