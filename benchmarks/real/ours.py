"""Our models of the tables, trained with the configuration of a request that names the data and a conditional part."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.quality import trained
from benchmarks.real import tables
from benchmarks.real.tables import Split, Table


class Found(NamedTuple):
    """group -> the error of `impute`, and the part of values inside their 90 % interval; seconds of the training."""

    errors: dict[str, float]
    coverage: dict[str, float]
    seconds: float


def measure(table: Table, split: Split, seed: int) -> Found:
    """Train on the training rows, and predict each group of the test rows from all others."""
    known = {name: values[split.training] for name, values in table.values.items()}
    predictor, seconds = trained(known, "static", seed, {"conditional": {}})
    errors, coverage = {}, {}
    for group, values in table.values.items():
        given = {name: own[split.test] for name, own in table.values.items() if name != group}
        present = {name: np.ones(len(split.test), bool) for name in given}
        found = predictor.impute(given, present, targets=[group])["completed"][group]
        truth = values[split.test]
        errors[group] = tables.error(found["mean"], truth, known[group])
        coverage[group] = float(((found["lower"] <= truth) & (truth <= found["upper"])).mean())
    return Found(errors, coverage, seconds)


def kept(table: Table, number: int, seed: int, folder: Path) -> Found:
    """What was found for a split and a seed, measured if it is not in the folder."""
    path = folder / f"{table.name}-{number}-{seed}.json"
    if path.exists():
        return Found(**json.loads(path.read_text()))
    found = measure(table, table.splits[number], seed)
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(found._asdict()))
    whole.replace(path)
    return found
