"""The quality of the defaults on three data sets with published figures, and on two that were not used to choose them.

Each training has the configuration of a request that names only its dataset. Checkpoints are chosen on held-out
training rows; test rows are used once, at the end. Two trainings run at a time, on one processor thread each.
"""

import argparse
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_linnerud
from sklearn.linear_model import RidgeClassifierCV, RidgeCV

import models
from benchmarks.report import Figure, publish
from models import synthetic
from models.config import MMVAEOptions, MMVRNNOptions, ModalityConfig, TrainingConfig, complete
from models.config.frozen import Kind
from models.config.presets import choose
from models.predictor import Predictor

Array = NDArray[Any]
Arrays = Mapping[str, Array]
DRAWS = 32
# 90 % of a Gaussian lies within this many standard deviations.
INTERVAL = 1.6448536
CALIBRATED = (0.85, 0.95)


@dataclass(frozen=True)
class Question:
    """present: the inputs given from the test rows. targets: the modalities whose errors count."""

    name: str
    present: Mapping[str, NDArray[np.bool_]]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Mean squared errors by question, the share of hidden numbers inside their 90 % interval, and the seconds."""

    errors: dict[str, float]
    coverage: float
    seconds: float


@dataclass(frozen=True)
class Bar:
    """The maximum of the mean over the seeds, and the best figures known from others."""

    maximum: float
    known: str


BARS: dict[str, dict[str, Bar]] = {
    "quadratic-sinusoidal": {
        "m1 -> m2": Bar(0.020, "JMVAE .091, floor .010"),
        "m2 -> m1": Bar(0.060, "JMVAE .081, floor .051"),
    },
    "spirals": {
        "m1 -> m2": Bar(0.10, "original code .50, floor .062"),
        "m2 -> m1": Bar(0.075, "original code 1.05, floor .042"),
    },
    "mdmm-spirals": {
        "recon": Bar(0.018, "published .02"),
        "half": Bar(0.025, "published .04"),
        "fwd": Bar(0.032, "published .10"),
        "bwd": Bar(0.028, "published .04"),
        "condgen": Bar(0.042, "published .26"),
    },
}
MAX_SECONDS = {"quadratic-sinusoidal": 60, "spirals": 180, "mdmm-spirals": 300}
MDMM_DATA, FURTHER_DATA = 1, (2, 3)


def main() -> None:
    """Train all models and answer all questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, and no further data seeds")
    quick = parser.parse_args().quick
    seeds = range(1 if quick else 3)
    # the longest first: the two processes then end together
    work = [("mdmm-spirals", seed, MDMM_DATA) for seed in seeds]
    work += [] if quick else [("mdmm-spirals", 0, data) for data in FURTHER_DATA]
    work += [(name, seed, seed) for name in ("spirals", "quadratic-sinusoidal") for seed in seeds]
    started = time.monotonic()
    with ProcessPoolExecutor(max_workers=2, mp_context=multiprocessing.get_context("spawn")) as pool:
        unseen = [pool.submit(function) for function in (linnerud, digits)]
        answers = list(pool.map(ask, *zip(*work, strict=True)))
        others = [figure for future in unseen for figure in future.result()]
    figures = []
    for name, bars in BARS.items():
        of_name = [answer for (subject, _, data), answer in zip(work, answers, strict=True) if subject == name]
        figures += _figures(name, bars, of_name[: len(seeds)])
        for data, answer in zip(FURTHER_DATA, of_name[len(seeds) :], strict=False):
            figures += _figures(f"{name}, data seed {data}", bars, [answer])
    figures.append(Figure("total", time.monotonic() - started, "s", None, None))
    publish("quality", figures + others)


def _figures(name: str, bars: Mapping[str, Bar], answers: Sequence[Answer]) -> list[Figure]:
    figures = []
    for question, bar in bars.items():
        errors = [answer.errors[question] for answer in answers]
        mean = float(np.mean(errors))
        words = f"<= {bar.maximum:g} ({bar.known})"
        figures.append(Figure(f"{name}: {question}", mean, "mse", words, mean <= bar.maximum))
        if len(errors) > 1:
            figures.append(Figure(f"{name}: {question}, worst seed", max(errors), "mse", None, None))
    low, high = CALIBRATED
    covered = float(np.mean([answer.coverage for answer in answers]))
    words = f"{low:g} to {high:g}"
    figures.append(Figure(f"{name}: imputed inside their 90 % interval", covered, "", words, low <= covered <= high))
    maximum = MAX_SECONDS[name.partition(",")[0]]
    seconds = max(answer.seconds for answer in answers)
    figures.append(Figure(f"{name}: longest training", seconds, "s", f"<= {maximum}", seconds <= maximum))
    return figures


def ask(name: str, seed: int, data: int) -> Answer:
    """Train on one data set and answer its questions. data: which draw of the generator."""
    if name == "mdmm-spirals":
        made = synthetic.mdmm_spirals(seed=data)
        assert made.splits is not None  # noqa: S101 this generator has them
        train, test = ({m: v[made.splits == split] for m, v in made.values.items()} for split in (0, 2))
        questions = _mdmm_questions(*test["x"].shape)
    elif name == "spirals":
        train, test = synthetic.spirals(1000, 50, seed=data), synthetic.spirals(1000, 50, seed=1000 + data)
        questions = _crossings((1000, 50))
    else:
        train = synthetic.quadratic_sinusoidal(5000, seed=data)
        test = synthetic.quadratic_sinusoidal(5000, seed=1000 + data)
        questions = _crossings((5000,))
    predictor, seconds = trained(train, "static" if name == "quadratic-sinusoidal" else "sequence", seed)
    errors, inside, hidden = {}, 0, 0
    for question in questions:
        given = {m: np.where(_like(p, test[m]), test[m], 0) for m, p in question.present.items()}
        mean = predictor.reconstruct(given, question.present, None, question.targets)
        drawn = predictor.reconstruct(given, question.present, None, question.targets, n_samples=DRAWS)
        each = [np.square(mean[m]["mean"] - test[m]) for m in question.targets]
        # as published: the sum over one-dimensional modalities, the mean over the features of vectors
        errors[question.name] = float(sum(e.mean() for e in each))
        for m in question.targets:
            missing = ~question.present[m] if m in question.present else np.ones(test[m].shape[:1], bool)
            missing = np.broadcast_to(_like(missing, test[m]), test[m].shape)
            within = np.abs(test[m] - drawn[m]["mean"]) <= INTERVAL * drawn[m]["standard_deviation"]
            inside, hidden = inside + int(within[missing].sum()), hidden + int(missing.sum())
    return Answer(errors, inside / hidden, seconds)


def trained(
    arrays: Arrays, kind: Kind, seed: int, architecture: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Predictor, float]:
    """A predictor, trained as a job does for a request that names its dataset and this architecture; the seconds."""
    models.use_threads(1)
    dataset = models.Dataset.from_arrays(arrays, kind)
    modalities = [
        ModalityConfig(
            name=modality.name,
            shape=modality.shape,
            categories=modality.categories,
            likelihood="categorical" if modality.categories else "gaussian",
        )
        for modality in dataset.modalities
    ]
    choices = choose(None, dataset.kind, len(modalities), dataset.rows, architecture, {})
    options = MMVAEOptions if kind == "static" else MMVRNNOptions
    config, training = complete(options(**choices.architecture), modalities), TrainingConfig(**choices.training)
    started = time.monotonic()
    *_, last = models.fit(config, dataset, training, seed=seed)
    assert isinstance(last, models.Finished)  # noqa: S101 should_stop is not given
    models.refit(last, dataset, training)
    return Predictor(last.model), time.monotonic() - started


def _crossings(lead: tuple[int, ...]) -> list[Question]:
    everywhere = np.ones(lead, bool)
    return [Question(f"{a} -> {b}", {a: everywhere}, (b,)) for a, b in (("m1", "m2"), ("m2", "m1"))]


def _mdmm_questions(rows: int, steps: int) -> list[Question]:
    """The five tasks of the published table."""
    everywhere = np.ones((rows, steps), bool)
    random = np.random.default_rng(0)

    def between(first: int, last: int) -> NDArray[np.bool_]:
        step = np.arange(steps)
        return np.broadcast_to((step >= first) & (step < last), (rows, steps))

    halves = {m: random.permuted(np.tile(np.arange(steps) < steps // 2, (rows, 1)), axis=1) for m in "xy"}
    shown = {
        "recon": {"x": everywhere, "y": everywhere},
        "half": halves,
        "fwd": {m: between(0, 75) for m in "xy"},
        "bwd": {m: between(25, steps) for m in "xy"},
        "condgen": {"x": everywhere, "y": between(0, 25)},
    }
    return [Question(name, present, ("x", "y")) for name, present in shown.items()]


def _like(mask: NDArray[np.bool_], values: Array) -> NDArray[np.bool_]:
    return mask.reshape(*mask.shape, *[1] * (values.ndim - mask.ndim))


def digits() -> list[Figure]:
    """Handwritten digits, image and label, compared with a ridge regression."""

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int64)
    train, test = slice(None, -360), slice(-360, None)
    arrays = {"image": images[train].reshape(-1, 1, 8, 8), "label": labels[train]}
    predictor, seconds = trained(arrays, "static", 0)
    every = np.ones(360, bool)
    read = predictor.reconstruct({"image": images[test].reshape(-1, 1, 8, 8)}, {"image": every}, None, ["label"])
    drawn = predictor.reconstruct({"label": labels[test]}, {"label": every}, None, ["image"])
    accuracy = float((read["label"]["category"] == labels[test]).mean())
    error = float(np.square(drawn["image"]["mean"].reshape(360, -1) - images[test]).mean())
    powers = np.logspace(-3, 3, 13)
    ridge = RidgeClassifierCV(alphas=powers).fit(images[train], labels[train])
    one_hot = np.eye(10)[labels]
    pixels = RidgeCV(alphas=powers).fit(one_hot[train], images[train])
    ridge_error = float(np.square(pixels.predict(one_hot[test]) - images[test]).mean())
    return [
        Figure("digits: label from image, accuracy", accuracy, "", None, None),
        Figure("digits: the same by ridge", float(ridge.score(images[test], labels[test])), "", None, None),
        Figure("digits: image from label", error, "mse", None, None),
        Figure("digits: the same by ridge", ridge_error, "mse", None, None),
        Figure("digits: training", seconds, "s", None, None),
    ]


def linnerud() -> list[Figure]:
    """Twenty men, three exercises and three measures of their bodies: five folds, compared with a ridge regression.

    Errors are mean squares in units of the variance: predicting the mean has an error of about 1.
    """

    exercise, body = load_linnerud(return_X_y=True)
    data = {"exercise": exercise.astype(np.float32), "body": body.astype(np.float32)}
    variance = {name: values.var(axis=0) for name, values in data.items()}
    folds = np.array_split(np.random.default_rng(0).permutation(20), 5)
    sums = {(way, target): 0.0 for way in ("ours", "ridge", "mean") for target in data}
    for fold in folds:
        rest = np.setdiff1d(np.arange(20), fold)
        predictor, _ = trained({name: values[rest] for name, values in data.items()}, "static", 0)
        for given, target in (("exercise", "body"), ("body", "exercise")):
            truth, known = data[target][fold], data[given]
            shown = {given: known[fold]}, {given: np.ones(len(fold), bool)}
            ridge = RidgeCV(alphas=np.logspace(-1, 4, 21)).fit(_standard(known[rest], known[rest]), data[target][rest])
            predicted = {
                "ours": predictor.reconstruct(*shown, None, [target])[target]["mean"],
                "ridge": ridge.predict(_standard(known[fold], known[rest])),
                "mean": data[target][rest].mean(axis=0),
            }
            for way, found in predicted.items():
                sums[way, target] += float((np.square(found - truth) / variance[target]).sum()) / truth.shape[1] / 20
    return [
        Figure(f"linnerud: {target} from the other, {way}", error, "variances", None, None)
        for (way, target), error in sums.items()
    ]


def _standard(values: Array, like: Array) -> Array:
    standard: Array = (values - like.mean(axis=0)) / like.std(axis=0)
    return standard


if __name__ == "__main__":
    main()
