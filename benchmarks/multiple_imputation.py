"""Coverage of 95 % intervals of a regression's coefficients, after multiple imputation of 100 simulated tables.

Two in five rows lack two of four columns, the more often the higher their outcome, so that complete rows mislead. The
tables, the regression and Rubin's rules are those of `examples/multiple_imputation.py`. Each table is imputed from
models that are fitted to bootstrap samples of it, one for each completed table.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import models
from benchmarks.report import Figure, publish
from examples.multiple_imputation import (
    ARCHITECTURE,
    CONDITIONAL,
    LEVEL,
    NAMES,
    TRUTH,
    Study,
    bootstrap,
    simulated,
)
from examples.rubin import Fitted, Numbers, pool
from models.config import MMVAEOptions, ModalityConfig, TrainingConfig, complete
from models.config.presets import choose
from models.predictor import Predictor

ROWS, TABLES, EPOCHS, STEPS = 500, 5, 60, 500
# The coefficient that the bar is for, chosen before anything was measured: the one that complete rows mislead most.
MAIN = "marker 1"
LOWEST, HIGHEST = 0.92, 0.98


class Result(NamedTuple):
    """Of one method on one table, by coefficient: (K,) each."""

    estimate: Numbers
    error: Numbers
    covers: NDArray[np.bool_]


def main() -> None:
    """Impute all tables and compare the methods."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-sets", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.data_sets)
    started = time.monotonic()
    with ProcessPoolExecutor(max_workers=2, mp_context=multiprocessing.get_context("spawn")) as processes:
        found = list(processes.map(results, seeds))
    shown = Table("method", "coefficient", "true", "mean estimate", "deviation", "mean standard error", "coverage")
    figures = []
    for method in found[0]:
        estimate, error, covers = (np.stack(part) for part in zip(*(one[method] for one in found), strict=True))
        for index, name in enumerate(NAMES[1:], start=1):
            coverage, of_method = float(covers[:, index].mean()), estimate[:, index]
            numbers = TRUTH[index], of_method.mean(), of_method.std(ddof=1), error[:, index].mean(), coverage
            shown.add_row(method, name, *(f"{number:.3f}" for number in numbers))
            counts = method == "multiple imputation" and name == MAIN
            bar = f"{LOWEST} to {HIGHEST}" if counts else None
            holds = LOWEST <= coverage <= HIGHEST if counts else None
            figures.append(Figure(f"{method}: coverage of {name}", coverage, "", bar, holds))
    Console(width=110).print(shown)
    figures.append(Figure("total", time.monotonic() - started, "s", None, None))
    publish("multiple_imputation", figures)


def results(seed: int) -> dict[str, Result]:
    """Each method's result on the table of a seed."""
    study = simulated(ROWS, seed)
    has = study.has_laboratory
    means = np.where(has[:, None], study.laboratory, study.laboratory[has].mean(axis=0))
    tables, of_one_model = imputed(study, seed)
    fitted = {
        "nothing missing": study.regression(study.laboratory),
        "complete rows": study.regression(study.laboratory, has),
        "mean imputation": study.regression(means),
        "one draw": study.regression(tables[0]),
        "draws of one model": pool([study.regression(table) for table in of_one_model]).fitted,
        "multiple imputation": pool([study.regression(table) for table in tables]).fitted,
    }
    return {method: _result(one) for method, one in fitted.items()}


def imputed(study: Study, seed: int) -> tuple[list[Numbers], list[Numbers]]:
    """Completed laboratories, one from each of several models, and as many from the first model alone."""
    models.use_threads(1)
    rows = len(study.has_laboratory)
    training = {"epochs": EPOCHS}
    first = _fitted(study, {}, training, seed)
    values, present = {"interview": study.interview, "laboratory": study.laboratory}, np.ones(rows, bool)
    inputs = {name: value.astype(np.float32) for name, value in values.items()}
    presence = {"interview": present, "laboratory": study.has_laboratory}
    found = []
    for number in range(TABLES):
        drawn, held_out = bootstrap(rows, seed=TABLES * seed + number)
        choices = {"fit": "conditional", "conditional_steps": STEPS, "validation_rows": held_out}
        member = _fitted(study, {"conditional": CONDITIONAL}, training | choices, number, drawn, first)
        answer = Predictor(member).impute(inputs, presence, targets=["laboratory"], draws=TABLES, seed=number)
        found.append(answer["completed"]["laboratory"]["draws"].astype(np.float64))  # (N, TABLES, 2)
    return [draws[:, 0] for draws in found], list(found[0].swapaxes(0, 1))


def _fitted(
    study: Study,
    architecture: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    rows: Any = slice(None),
    init: models.MMVAE | None = None,
) -> models.MMVAE:
    arrays = study.arrays(rows)
    has = arrays.pop("laboratory.present")
    dataset = models.Dataset.from_arrays(arrays, present={"laboratory": has})
    choices = choose(None, "static", 2, dataset.rows, ARCHITECTURE | architecture, training)
    modalities = [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in sorted(arrays)]
    config = complete(MMVAEOptions(**choices.architecture), modalities)
    weights = None if init is None else init.state_dict()
    *_, last = models.fit(config, dataset, TrainingConfig(**choices.training), seed=seed, init=weights)
    assert isinstance(last, models.Finished)  # noqa: S101 should_stop is not given
    assert isinstance(last.model, models.MMVAE)  # noqa: S101 as configured
    return last.model


def _result(fitted: Fitted) -> Result:
    low, high = fitted.interval(LEVEL)
    return Result(fitted.estimate, np.sqrt(fitted.variance), (low <= TRUTH) & (np.array(TRUTH) <= high))


if __name__ == "__main__":
    main()
