"""Numbers of training and held-out rows, computed once for presets, checks and the split."""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Rows(NamedTuple):
    """Numbers of rows; test rows count in neither."""

    training: int
    held_out: int


def part(fraction: float, rows: int) -> int:
    """The number of `rows` that a fraction holds out: at least one if the fraction is above 0."""
    return max(1, round(fraction * rows)) if fraction > 0 and rows else 0


def count(
    rows: int, splits: Mapping[str, int] | None, validation_rows: Collection[int] | None, fraction: float
) -> Rows:
    """Training and held-out rows of a dataset. splits: the number of rows by split, if the dataset has splits."""
    test, validation = (splits["test"], splits["validation"]) if splits else (0, 0)
    usable = rows - test
    if validation_rows is not None:
        held_out = len(set(validation_rows))
        # up to `test` of them may be test rows, which take no training rows away
        return Rows(usable - max(0, held_out - test), held_out)
    if validation:
        return Rows(usable - validation, validation if fraction > 0 else 0)
    held_out = part(fraction, usable)
    return Rows(usable - held_out, held_out)


def min_batch_size(devices: int) -> int:
    """The smallest batch_size for this many devices: every device needs a row of each batch, and the smallest batch of
    an epoch has about half of batch_size.
    """
    return 2 * devices - 1
