"""The size of a preview is computed before its rows are read."""

from dataclasses import replace

import numpy as np
import pytest

from service.datasets.export import npz
from service.datasets.export.row_chunks import PIECE_BYTES, pieces
from service.datasets.preview import preview
from service.shared.errors import BadInput
from service.shared.samples import Samples
from tests.samples import of_arrays

LONG = 1_000_000


def static(rows: int) -> Samples:
    return of_arrays({"a": np.zeros(rows, np.float32)})


def named(rows: int) -> Samples:
    """Categories with long names: each value has 8 bytes in the stored file, and 200 in an export."""
    plain = of_arrays({"word": np.zeros(rows, np.int64)})
    modality = plain.schema.modalities[0].model_copy(update={"category_names": ("x" * 200, "y"), "categories": 2})
    return replace(plain, schema=plain.schema.model_copy(update={"modalities": (modality,)}))


def test_a_download_as_npz_counts_texts_padded_to_the_longest() -> None:
    """The ids of all rows are padded to one id of a megabyte."""
    found = replace(static(1000), ids=["x" * LONG, *["y"] * 999])
    assert npz.unpacked_bytes(found) == 1000 * (5 + LONG)
    assert max(len(rows) for rows in pieces(found)) * LONG <= PIECE_BYTES


def test_a_piece_of_a_download_counts_the_names_of_categories() -> None:
    assert max(len(rows) for rows in pieces(named(100_000))) * 200 <= PIECE_BYTES


def test_a_preview_counts_texts_and_the_names_of_categories() -> None:
    long = replace(static(100), ids=["x" * LONG] * 100)
    with pytest.raises(BadInput, match="the rows may have 20000000 characters of text") as error:
        preview(long, 0, 20, 100)
    assert error.value.faults[0].pointer == "?rows"
    assert preview(long, 0, 1, 100)["rows"][0]["id"] == "x" * LONG
    with pytest.raises(BadInput, match="characters of text"):
        preview(named(100_000), 0, 100_000, 100)
    assert preview(named(100), 0, 1, 1)["rows"][0]["values"] == {"word": "x" * 200}


def test_the_pieces_cover_all_rows() -> None:
    for found in (static(10), replace(static(10), ids=["x" * 3 * PIECE_BYTES] * 10), named(100_000)):
        assert [row for rows in pieces(found) for row in rows] == list(range(found.rows))
