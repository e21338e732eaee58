"""Our models of the tables, trained with the configuration of a request that names the data and a conditional part."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import models
from benchmarks.real import tables
from benchmarks.real.tables import Split, Table
from models.config import MMVAEOptions, ModalityConfig, TrainingConfig, complete
from models.config.presets import choose
from models.predictor import Predictor


class Found(NamedTuple):
    """group -> the error of `impute`, and the part of values inside their 90 % interval; seconds of the training."""

    errors: dict[str, float]
    coverage: dict[str, float]
    seconds: float


def measure(table: Table, split: Split, seed: int) -> Found:
    """Train on the training rows, and predict each group of the test rows from all others."""
    models.use_threads(1)
    started = time.monotonic()
    predictor = _trained({name: values[split.training] for name, values in table.values.items()}, seed)
    seconds = time.monotonic() - started
    errors, coverage = {}, {}
    for group, values in table.values.items():
        given = {name: own[split.test] for name, own in table.values.items() if name != group}
        present = {name: np.ones(len(split.test), bool) for name in given}
        found = predictor.impute(given, present, targets=[group])["completed"][group]
        truth = values[split.test]
        errors[group] = tables.error(found["mean"], truth, values[split.training])
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


def _trained(values: dict[str, NDArray[Any]], seed: int) -> Predictor:
    dataset = models.Dataset.from_arrays(values)
    modalities = [ModalityConfig(name=one.name, shape=one.shape, likelihood="gaussian") for one in dataset.modalities]
    choices = choose(None, "static", len(modalities), dataset.rows, {"conditional": {}}, {})
    training = TrainingConfig(**choices.training)
    config = complete(MMVAEOptions(**choices.architecture), modalities)
    *_, last = models.fit(config, dataset, training, seed=seed)
    assert isinstance(last, models.Finished)  # noqa: S101 should_stop is not given
    models.refit(last, dataset, training)
    return Predictor(last.model)
