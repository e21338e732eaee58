"""Real data: is `impute` better than what people use instead?

Our models are trained now; results of the peers are from a file, with digests of the data and of the splits. One seed;
`--full` has three, and goes on where it was interrupted. `--validation` judges by a part of the training rows, for
choices: test rows are looked at for a final table only. `--peers` measures the peers anew.
"""

import argparse
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.real import ours, peers, tables
from benchmarks.real.ours import Found
from benchmarks.real.tables import Table
from benchmarks.report import Figure, publish

FOLDER = Path("var/benchmarks/real")
SEEDS = 1, 2, 3
# The mean of the ratios to the best peer, and the worst of them.
BARS = {"six views": (0.95, 1.03), "diabetes and Linnerud": (1.00, 1.05)}


def main() -> None:
    """Train, ask, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="three seeds, resumable")
    parser.add_argument("--validation", action="store_true", help="judge by a part of the training rows")
    parser.add_argument("--peers", action="store_true", help="measure the peers, and write their results")
    options = parser.parse_args()
    if options.peers:
        peers.measure()
        return
    part = "validation" if options.validation else "test"
    every = [table.for_choices() if options.validation else table for table in tables.load()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = FOLDER / part if options.full else Path(temporary)
        found = _measured(every, SEEDS if options.full else SEEDS[:1], folder)
    ratios = {table.name: _ratios(table, found[table.name], part) for table in every}
    figures = [figure for table in every for figure in _told(table, ratios[table.name], found[table.name])]
    if options.full:
        shutil.rmtree(folder)  # the next one measures anew
    publish("real", [*_judged("six views", ratios), *_judged("diabetes and Linnerud", ratios), *figures])


def _measured(every: list[Table], seeds: tuple[int, ...], folder: Path) -> dict[str, list[Found]]:
    """table -> what was found for each of its splits and seeds. Two trainings at a time, the longest first."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        waiting = {
            table.name: [
                pool.submit(ours.kept, table, number, seed, folder)
                for seed in seeds
                for number in range(len(table.splits))
            ]
            for table in sorted(every, key=lambda one: -sum(values.size for values in one.values.values()))
        }
        return {name: [future.result() for future in futures] for name, futures in waiting.items()}


def _ratios(table: Table, found: list[Found], part: str) -> dict[str, float]:
    """group -> our mean error over that of the best peer."""
    of_peers = peers.errors(table, part)
    return {
        group: float(np.mean([one.errors[group] for one in found])) / min(of_peers[group].values())
        for group in table.values
    }


def _judged(name: str, ratios: dict[str, dict[str, float]]) -> list[Figure]:
    each = [ratio for table, of in ratios.items() if table in name for ratio in of.values()]
    (mean, worst), words = BARS[name], "error / best peer's"
    return [
        Figure(f"{name}: mean", float(np.mean(each)), words, f"<= {mean:g}", float(np.mean(each)) <= mean),
        Figure(f"{name}: worst", max(each), words, f"<= {worst:g}", max(each) <= worst),
    ]


def _told(table: Table, ratios: dict[str, float], found: list[Found]) -> list[Figure]:
    figures = []
    for group, ratio in ratios.items():
        covered = float(np.mean([one.coverage[group] for one in found]))
        figures += [
            Figure(f"{table.name}: {group}", ratio, "error / best peer's", None, None),
            Figure(f"{table.name}: {group}, inside 90 % intervals", covered, "", None, None),
        ]
    seconds = max(one.seconds for one in found)
    return [*figures, Figure(f"{table.name}: longest training", seconds, "s", None, None)]


if __name__ == "__main__":
    main()
