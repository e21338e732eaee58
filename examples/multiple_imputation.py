"""Multiple imputation over HTTP: several completed tables, a regression on each, and Rubin's rules.

`python -m examples.multiple_imputation` against a service that is up, whose address and key come from SENSORIUM_URL and
SENSORIUM_API_KEY. docs/multiple-imputation.md explains each step.
"""

import argparse
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from examples.demo.client import Client
from examples.rubin import Fitted, pool, regression

NAMES = ("constant", "age", "marker 1", "marker 2")
TRUTH = (1.0, 0.5, 0.7, -0.4)
LEVEL = 0.95
# Enough rows to choose a training step by, and too few (below 100) to widen draws until they cover the error of a
# model's mean: the tables come from different models, so that Rubin's rules count that error.
HELD_OUT = 60
ARCHITECTURE = {"architecture": "mmvae", "latent_features": 8, "network": {"hidden_features": [64]}}
CONDITIONAL = {"hidden_features": 64, "layers": 2}


class Study(NamedTuple):
    """A table of N people with two groups of columns, of which the second may be missing.

    interview: (N, 2), outcome and age. laboratory: (N, 2), two markers, which a real table would not have in the rows
    where has_laboratory, (N,), is false.
    """

    interview: NDArray[np.float64]
    laboratory: NDArray[np.float64]
    has_laboratory: NDArray[np.bool_]

    def regression(self, laboratory: NDArray[np.float64], rows: Any = slice(None)) -> Fitted:
        """The outcome on age and both markers; laboratory: complete values."""
        columns = np.column_stack([self.interview[rows, 1], laboratory[rows]])
        return regression(self.interview[rows, 0], columns)

    def arrays(self, rows: Any = slice(None)) -> dict[str, NDArray[Any]]:
        """An upload of these rows."""
        values = {"interview": self.interview[rows], "laboratory": self.laboratory[rows]}
        present = {"laboratory.present": self.has_laboratory[rows]}
        return {name: value.astype(np.float32) for name, value in values.items()} | present


def simulated(rows: int, seed: int) -> Study:
    """People whose coefficients are TRUTH. Two in five lack the laboratory, the more often the higher their outcome."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((4, rows))
    age = noise[0]
    first = 0.5 * age + np.sqrt(0.75) * noise[1]
    second = 0.3 * age + 0.3 * first + 0.9 * noise[2]
    outcome = TRUTH[0] + np.column_stack([age, first, second]) @ TRUTH[1:] + noise[3]
    missing = generator.random(rows) < 1 / (1 + np.exp(1.7 - outcome))
    return Study(np.column_stack([outcome, age]), np.column_stack([first, second]), ~missing)


def bootstrap(rows: int, seed: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """N rows drawn with replacement, followed by up to HELD_OUT of the others, and the positions of the latter."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(rows, size=rows)
    others = generator.permutation(np.setdiff1d(np.arange(rows), drawn))[:HELD_OUT]
    return np.concatenate([drawn, others]), tuple(range(rows, rows + len(others)))


def main() -> None:
    """Prints the coefficients of the complete rows and of multiple imputation beside the true ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--tables", type=int, default=10, help="completed tables, and models that they are drawn from")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=500, help="training steps of a model's conditional part")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    client = Client(os.environ["SENSORIUM_URL"], os.environ["SENSORIUM_API_KEY"])
    study = simulated(args.rows, args.seed)

    # One model of the codes, from all rows.
    client.dataset("study", client.upload(study.arrays()), "static")
    training = {"epochs": args.epochs}
    first = client.train("study", "study", seed=args.seed, architecture=ARCHITECTURE, training=training)

    # A conditional part for each completed table, fitted to a bootstrap sample of its own: so the tables also differ by
    # what is not known of the distribution.
    laboratory = [
        row if has else None for row, has in zip(study.laboratory.tolist(), study.has_laboratory, strict=True)
    ]
    inputs = {"interview": study.interview.tolist(), "laboratory": laboratory}
    start = {"model": first["model"], "version": first["version"]}
    tables = []
    for number in range(args.tables):
        rows, held_out = bootstrap(args.rows, seed=number)
        name = f"study-{number}"
        client.dataset(name, client.upload(study.arrays(rows)), "static")
        choices = {"fit": "conditional", "conditional_steps": args.steps, "validation_rows": held_out}
        architecture = ARCHITECTURE | {"conditional": CONDITIONAL}
        run = client.train(
            name, name, seed=number, init_from=start, architecture=architecture, training=training | choices
        )
        draws = client.impute(run, inputs, "laboratory", draws=1, seed=number)["draws"]  # (N, 1, 2)
        tables.append(study.regression(draws[:, 0]))

    pooled = pool(tables)
    shown = Table("coefficient", "true", "complete rows", "multiple imputation", "missing information")
    intervals = [
        _intervals(fitted) for fitted in (study.regression(study.laboratory, study.has_laboratory), pooled.fitted)
    ]
    for name, true, *estimates, missing in zip(NAMES, TRUTH, *intervals, pooled.missing_information, strict=True):
        shown.add_row(name, f"{true:.2f}", *estimates, f"{missing:.2f}")
    Console(width=110).print(shown)


def _intervals(fitted: Fitted) -> list[str]:
    low, high = fitted.interval(LEVEL)
    return [f"{one:.2f} ({a:.2f} to {b:.2f})" for one, a, b in zip(fitted.estimate, low, high, strict=True)]


if __name__ == "__main__":
    main()
