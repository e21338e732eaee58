"""How many rows a training learns from and how many it holds out: one arithmetic for presets, checks and the split."""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Rows(NamedTuple):
    """Numbers of rows. Those for tests are in neither."""

    training: int
    held_out: int


def part(fraction: float, rows: int) -> int:
    """How many of so many rows a fraction holds out: at least one, where it is above 0."""
    return max(1, round(fraction * rows)) if fraction > 0 and rows else 0


def count(
    rows: int, splits: Mapping[str, int] | None, validation_rows: Collection[int] | None, fraction: float
) -> Rows:
    """Of a dataset of `rows` rows. splits: how many it calls training, validation and test itself, if it does."""
    test, validation = (splits["test"], splits["validation"]) if splits else (0, 0)
    usable = rows - test
    if validation_rows is not None:
        held_out = len(set(validation_rows))
        # as many of them as possible may be for tests; then they are not taken from the rest
        return Rows(usable - max(0, held_out - test), held_out)
    if validation:
        return Rows(usable - validation, validation if fraction > 0 else 0)
    held_out = part(fraction, usable)
    return Rows(usable - held_out, held_out)


def min_batch_size(devices: int) -> int:
    """The smallest batch_size for so many devices: an epoch's smallest batch is about half of one, and every device
    needs a row of each batch.
    """
    return 2 * devices - 1
