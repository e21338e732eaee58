"""Draws of what is missing: are they as different, as smooth and as wide as the data?

Digits and spirals with three seeds, and movements with one: of recordings that the model has not seen, of people whose
other recordings it has. Digits are split anew by each seed. A training has the configuration of a request that names
the dataset and `architecture.conditional`. Two trainings run at a time, on one processor thread each.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV
from sklearn.svm import SVC

import models
from benchmarks.real import movements as smartwatch
from benchmarks.report import Figure, publish
from models import synthetic
from models.config import MMVAEOptions, MMVRNNOptions, ModalityConfig, TrainingConfig, complete
from models.config.presets import choose
from models.predictor import Predictor

Array = NDArray[Any]
SEEDS = 1, 2, 3
HELD_OUT = 360
LABELS_MISSING = 0.2
EPOCHS = 50
DRAWS = 64
PATHS = 32
SPIRALS, STEPS, TRAINING, TEST = 1000, 100, 600, 100
RECORDINGS_LEFT_OUT = 0.2
WINDOW_PATHS = 16
LAGS = 1, 2, 5, 10
LEVEL = 0.9


def main() -> None:
    """Train, ask, and judge means over the seeds and the worst seeds."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as pool:
        of_spirals = [pool.submit(spirals, seed) for seed in SEEDS]
        of_movements = [pool.submit(movements, seed) for seed in SEEDS[:1]]
        of_digits = [pool.submit(digits, seed) for seed in SEEDS]
        found = [[future.result() for future in one] for one in (of_digits, of_spirals, of_movements)]
    figures = [figure for each in found for name in each[0] for figure in _judged(name, [one[name] for one in each])]
    publish("draws", figures)


def digits(seed: int) -> dict[str, float]:
    """Images and labels, asked for from each other."""
    models.use_threads(1)
    data, random = load_digits(), np.random.default_rng(100 + seed)
    order = random.permutation(len(data.target))
    images, labels = data.images[order].astype(np.float32)[:, None], data.target[order]
    known, test = slice(None, -HELD_OUT), slice(-HELD_OUT, None)
    has_label = random.random(len(labels) - HELD_OUT) >= LABELS_MISSING
    dataset = models.Dataset.from_arrays(
        {"image": images[known], "label": labels[known]}, present={"label": has_label, "image": np.ones_like(has_label)}
    )
    options = MMVAEOptions.model_validate({"conditional": {}})
    modalities = [
        ModalityConfig(name="image", shape=(1, 8, 8), likelihood="gaussian"),
        ModalityConfig(name="label", likelihood="categorical", categories=10),
    ]
    predictor, without, whole = _train(options, modalities, dataset, seed, {"epochs": EPOCHS})

    each = np.arange(10)
    drawn = predictor.impute({"label": each}, {"label": np.ones(10, bool)}, draws=DRAWS)["completed"]["image"]["draws"]
    classifier = SVC(gamma=0.001, C=10).fit(images[known].reshape(-1, 64), labels[known])
    read = classifier.predict(drawn.reshape(-1, 64)).reshape(10, DRAWS)
    ratios = [
        drawn[label].reshape(DRAWS, 64).var(axis=0).sum() / images[labels == label].reshape(-1, 64).var(axis=0).sum()
        for label in each
    ]
    given = {"label": labels[test]}, {"label": np.ones(HELD_OUT, bool)}
    of_label = predictor.impute(*given, draws=256)["completed"]["image"]
    of_image = predictor.impute({"image": images[test]}, {"image": np.ones(HELD_OUT, bool)})["completed"]["label"]
    # no function of the label can do better than the mean of its images, those of the test included
    every = np.stack([images[labels == label].mean(axis=0) for label in each])
    ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(np.eye(10)[labels[known]], images[known].reshape(-1, 64))
    of_ridge = ridge.predict(np.eye(10)[labels[test]]).reshape(-1, 1, 8, 8)
    low, high = np.quantile(of_label["draws"], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    told, own = _inside(images[test], of_label["lower"], of_label["upper"]), _inside(images[test], low, high)
    sixty_four = {"label": labels[test][:64]}, {"label": np.ones(64, bool)}
    return {
        "digits: variance drawn / real, mean over labels": float(np.mean(ratios)),
        "digits: variance drawn / real, smallest": float(np.min(ratios)),
        "digits: variance drawn / real, largest": float(np.max(ratios)),
        "digits: drawn images read as their label": float((read == each[:, None]).mean()),
        "digits: label from image": float((of_image["category"] == labels[test]).mean()),
        "digits: image from label, mse": float(np.square(of_label["mean"] - images[test]).mean()),
        "digits: image from label, mse of ridge": float(np.square(of_ridge - images[test]).mean()),
        "digits: image from label, mse of the means of all images, test included": float(
            np.square(every[labels[test]] - images[test]).mean()
        ),
        "digits: coverage, image given label": told,
        "digits: quantiles of draws - told intervals": abs(own - told),
        "digits: training / without the conditional part": whole / without,
        "digits: 64 rows x 32 draws": 1e3 * _median(lambda: predictor.impute(*sixty_four, draws=32)),
    }


def spirals(seed: int) -> dict[str, float]:
    """One coordinate from the other, the future, the past, the middle and random steps."""
    models.use_threads(1)
    values = {
        name: value[..., None] for name, value in synthetic.mdmm_spirals(SPIRALS, STEPS, seed=100 + seed).values.items()
    }
    order = np.random.default_rng(seed).permutation(SPIRALS)
    dataset = models.Dataset.from_arrays({name: value[order[:TRAINING]] for name, value in values.items()}, "sequence")
    real = {name: value[order[TRAINING : TRAINING + TEST]] for name, value in values.items()}
    predictor, without, whole = _train_sequences(dataset, seed)
    found = _of_sequences(predictor, real, "spirals", PATHS, seed)
    few = {"x": real["x"][:8]}, {"x": np.ones((8, STEPS), bool)}
    found["spirals: training / without the conditional part"] = whole / without
    found["spirals: 8 rows x 32 draws"] = 1e3 * _median(lambda: predictor.impute(*few, draws=PATHS))
    return found


def movements(seed: int) -> dict[str, float]:
    """The same of a smartwatch, for recordings that the model has not seen of people whom it has."""
    models.use_threads(1)
    values, people, series = smartwatch.load()
    numbers = np.random.default_rng(seed).permutation(np.unique(series))
    left_out = np.isin(series, numbers[: round(RECORDINGS_LEFT_OUT * len(numbers))])
    assert set(people[left_out]) <= set(people[~left_out])  # noqa: S101 so it is for the seeds
    known = {name: value[~left_out] for name, value in values.items()}
    real = {name: value[left_out] for name, value in values.items()}
    predictor, _, _ = _train_sequences(models.Dataset.from_arrays(known, "sequence"), seed)
    found = _of_sequences(predictor, real, "movements", WINDOW_PATHS, seed)
    found["movements: autocorrelation, of known windows - of the others"] = max(
        _apart(known[name], real[name]) for name in real
    )
    return found


def _of_sequences(
    predictor: Predictor, real: Mapping[str, Array], data: str, draws: int, seed: int
) -> dict[str, float]:
    """Autocorrelation, coverage and width of what is drawn for gaps of six kinds. real: two modalities, (N, T, F)."""
    first, second = real
    rows = len(real[first])
    step, scattered = np.arange(STEPS), np.random.default_rng(seed).random((2, rows, STEPS)) < 0.4
    everywhere, nowhere = np.ones(STEPS, bool), np.zeros(STEPS, bool)
    cases: dict[str, tuple[Array, Array]] = {
        f"{second} given {first}": (everywhere, nowhere),
        f"{first} given {second}": (nowhere, everywhere),
        "future": (step < 60, step < 60),
        "past": (step >= 40, step >= 40),
        "middle": ((step < 30) | (step >= 60), (step < 30) | (step >= 60)),
        "scattered": (scattered[0], scattered[1]),
    }
    found = {}
    for case, masks in cases.items():
        present = {name: np.broadcast_to(mask, (rows, STEPS)).copy() for name, mask in zip(real, masks, strict=True)}
        given = {name: value * present[name][..., None] for name, value in real.items()}
        completed = predictor.impute(given, present, draws=draws)["completed"]
        apart, inside, ratios = [], [], []
        for name, answer in completed.items():
            missing = ~present[name]
            if not missing.any():
                continue
            gap = slice(None) if case == "scattered" else missing[0]
            own = real[name][:, gap]
            apart.append(_apart(answer["draws"][..., gap, :].reshape(-1, *own.shape[1:]), own))
            inside.append(_inside(real[name][missing], answer["lower"][missing], answer["upper"][missing]))
            error = np.square(answer["mean"] - real[name])[missing].mean()
            ratios.append(answer["draws"].var(axis=1)[missing].mean() / error)
        found[f"{data}: autocorrelation, drawn - real, {case}"] = max(apart)
        found[f"{data}: coverage, {case}"] = float(np.mean(inside))
        found[f"{data}: variance / squared error, {case}"] = float(np.mean(ratios))
    return found


def _train_sequences(dataset: models.Dataset, seed: int) -> tuple[Predictor, float, float]:
    """What `_train` returns, for real numbers."""
    modalities = [ModalityConfig(name=one.name, shape=one.shape, likelihood="gaussian") for one in dataset.modalities]
    chosen = choose(None, "sequence", len(modalities), dataset.rows, {}, {}).architecture
    return _train(MMVRNNOptions.model_validate({"conditional": {}, **chosen}), modalities, dataset, seed, {})


def _train(
    options: MMVAEOptions | MMVRNNOptions,
    modalities: list[ModalityConfig],
    dataset: models.Dataset,
    seed: int,
    training: Mapping[str, Any],
) -> tuple[Predictor, float, float]:
    """A model of the default choices, the seconds until its conditional part, and those in all."""
    config = complete(options, modalities)
    chosen = TrainingConfig(**choose(None, config.kind, len(modalities), dataset.rows, {}, training).training)
    start, without = time.monotonic(), 0.0
    for event in models.fit(config, dataset, chosen, seed=seed):
        if isinstance(event, models.Epoch):
            without = time.monotonic() - start
    assert isinstance(event, models.Finished)  # noqa: S101 the last event of a training
    models.refit(event, dataset, chosen)
    return Predictor(event.model), without, time.monotonic() - start


def _inside(values: Array, lower: Array, upper: Array) -> float:
    return float(((lower <= values) & (values <= upper)).mean())


def _apart(drawn: Array, real: Array) -> float:
    """How far autocorrelations are apart: at each of LAGS the mean over the F axes, and of these the largest.

    drawn, real: (N, T, F).
    """
    each = [
        [
            abs(_autocorrelation(drawn[..., axis], lag) - _autocorrelation(real[..., axis], lag))
            for axis in range(real.shape[-1])
        ]
        for lag in LAGS
    ]
    return float(np.mean(each, axis=1).max())


def _autocorrelation(paths: Array, lag: int) -> float:
    """Of steps at this distance, around each path's mean. paths: (N, T)."""
    centred = paths - paths.mean(axis=1, keepdims=True)
    return float((centred[:, lag:] * centred[:, :-lag]).mean() / np.square(centred).mean())


def _median(ask: Callable[[], object]) -> float:
    """Median seconds of an answer."""
    seconds = []
    for _ in range(9):
        start = time.monotonic()
        ask()
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)


# The beginning of a name -> unit, and the smallest and largest value that holds.
BARS: dict[str, tuple[str, float, float]] = {
    "digits: variance drawn / real, mean over labels": ("", 0.8, 1.25),
    "digits: drawn images read as their label": ("", 0.95, math.inf),
    "digits: label from image": ("", 0.97, math.inf),
    "digits: image from label, mse": ("", -math.inf, 11.0),
    "digits: coverage": ("", 0.87, 0.93),
    "digits: quantiles of draws": ("", -math.inf, 0.03),
    "digits: training /": ("times", -math.inf, 2.0),
    "digits: 64 rows": ("ms", -math.inf, 100.0),
    "spirals: autocorrelation": ("", -math.inf, 0.05),
    "spirals: coverage": ("", 0.87, 0.93),
    "spirals: training /": ("times", -math.inf, 2.0),
    "movements: autocorrelation, drawn": ("", -math.inf, 0.05),
    "movements: coverage": ("", 0.87, 0.93),
}


def _judged(name: str, values: list[float]) -> list[Figure]:
    """The mean over the seeds; and where there is a bar, the seed that misses it by most, or comes closest to it."""
    mean = statistics.mean(values)
    found = [bar for start, bar in BARS.items() if name.startswith(start) and "mse of" not in name]
    if not found:
        return [Figure(f"{name}, mean", mean, "", None, None)]
    unit, low, high = found[0]
    worst = max(values, key=lambda value: max(low - value, value - high))
    words = f">= {low:g}" if high == math.inf else f"<= {high:g}" if low == -math.inf else f"{low:g} to {high:g}"
    return [
        Figure(f"{name}, mean", mean, unit, words, low <= mean <= high),
        Figure(f"{name}, worst", worst, unit, None, None),
    ]


if __name__ == "__main__":
    main()
