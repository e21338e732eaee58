"""The demo's results as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SHOWN = 14


def generated_digits(path: Path, mean: np.ndarray, draws: Sequence[np.ndarray]) -> None:
    """A column a label: its mean image, and images drawn from p(image | label)."""
    figure, grid = plt.subplots(1 + len(draws), len(mean), figsize=(8, 9), layout="constrained")
    figure.suptitle(f"image from label: the mean image of each label (upper row), and {len(draws)} draws")
    for digit in range(len(mean)):
        _image(grid[0, digit], mean[digit], str(digit), "black")
        for row, draw in enumerate(draws):
            _image(grid[1 + row, digit], draw[digit], "", "black")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def read_digits(path: Path, images: np.ndarray, labels: np.ndarray, guessed: np.ndarray, codes: np.ndarray) -> None:
    """Held-out images with the label read from each, and their latent codes in the plane."""
    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(1, 2.4)))
    above.suptitle("label from image: held-out digits as the model reads them (red: wrong)")
    for axes, image, label, guess in zip(above.subplots(1, SHOWN), images, labels, guessed, strict=False):
        _image(axes, image, f"read {guess}", "black" if guess == label else "red")
    axes = below.subplots()
    flat = _plane(codes)
    scatter = axes.scatter(flat[:, 0], flat[:, 1], c=labels, cmap="tab10", s=14)
    axes.set_title("latent codes of all held-out images, in the plane of two principal components, by true label")
    below.colorbar(scatter, ax=axes, ticks=range(10))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def spirals(path: Path, first: np.ndarray, second: np.ndarray, predicted: dict[str, np.ndarray]) -> None:
    """The given modality, the missing one, and what the model made of it, for four test sequences."""
    figure, grid = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
    for i, (upper, lower) in enumerate(grid.T):
        upper.plot(*first[i].T, color="tab:blue")
        upper.set_title(f"given: m1 of test sequence {i}")
        lower.plot(*second[i].T, ".", color="tab:gray", label="m2, not shown to the model")
        lower.plot(*predicted["mean"][i].T, color="tab:orange", label="m2 from m1")
        for axes in (upper, lower):
            axes.set_aspect("equal", "datalim")
    grid[1, 0].legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _image(axes: Axes, image: np.ndarray, title: str, colour: str) -> None:
    axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=16)
    axes.set_title(title, fontsize=9, color=colour)
    axes.set_axis_off()


def _plane(codes: np.ndarray) -> np.ndarray:
    """Codes (N, Z) in the plane of their two largest variances."""
    centred = codes - codes.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane: np.ndarray = centred @ axes[:2].T
    return plane
