"""Plots of the examples, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

SHOWN = 3


def panels(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """One panel per title. Samples (N, 2) are dots; sequences (N, T, 2) are lines, one row for each of the first."""
    first = next(iter(columns.values()))
    rows = SHOWN if first.ndim == 3 else 1
    size = (4 * len(columns), 3.4 * rows)
    figure, grid = plt.subplots(
        rows, len(columns), figsize=size, squeeze=False, sharex="row", sharey="row", layout="constrained"
    )
    for column, (title, values) in enumerate(columns.items()):
        grid[0, column].set_title(title)
        for axes, points in zip(grid[:, column], values if values.ndim == 3 else [values], strict=False):
            axes.plot(*points.T, "-" if values.ndim == 3 else ".", markersize=2, color=f"C{column}")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def losses(path: Path, epochs: Sequence[Mapping[str, float]]) -> None:
    """The loss and its parts over the epochs, in nats per row, on training rows and on held-out rows."""
    parts = [name for name in epochs[0] if f"validation_{name}" in epochs[0]]
    figure, grid = plt.subplots(1, len(parts), figsize=(4 * len(parts), 3.4), squeeze=False, layout="constrained")
    number = np.arange(1, len(epochs) + 1)
    for axes, name in zip(grid[0], parts, strict=True):
        axes.plot(number, [epoch[name] for epoch in epochs], label="training")
        axes.plot(number, [epoch[f"validation_{name}"] for epoch in epochs], "--", label="held out")
        axes.set_title(name)
        axes.set_xlabel("epoch")
    grid[0, 0].set_ylabel("nats a row")
    grid[0, 0].legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)
