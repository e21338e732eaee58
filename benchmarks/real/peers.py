"""Results of the peers, which are computed once (`python -m benchmarks.real --peers`) and committed."""

import json
import subprocess
import tempfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from benchmarks.peers import venvs
from benchmarks.real import regressions, tables
from benchmarks.real.tables import Split, Table

FILE = Path(__file__).with_name("peers.json")
SCRIPT = Path("benchmarks/peers/multivae_tables.py")
MULTIVAE = "MVAE", "MVTCAE"


class Changed(ValueError):
    """The peers were measured on other data, or on other rows."""


def errors(table: Table, part: str) -> dict[str, dict[str, float]]:
    """group -> peer -> the mean error over the splits. part: "test", or "validation" with `Table.for_choices`.

    Choices are made without MissForest and MultiVae, which take long.
    """
    stored = json.loads(FILE.read_text())[part][table.name]
    if stored["digest"] != digest(table):
        raise Changed(f"{FILE} is of other rows of {table.name}; run python -m benchmarks.real --peers")
    found: dict[str, dict[str, float]] = stored["errors"]
    return found


def digest(table: Table) -> str:
    """Of the values and of the splits."""
    found = sha256()
    for name, values in table.values.items():
        found.update(name.encode() + np.ascontiguousarray(values).tobytes())
    for split in table.splits:
        found.update(split.training.astype("<i8").tobytes() + split.test.astype("<i8").tobytes())
    return found.hexdigest()


def measure() -> None:
    """Run all peers, and write the file."""
    interpreter = venvs.python("multivae")
    found: dict[str, Any] = {
        "versions": {"scikit-learn": version("scikit-learn"), "multivae": _pin("multivae")},
        "test": {table.name: _measured(table, interpreter) for table in tables.load()},
        "validation": {table.name: _measured(table.for_choices(), None) for table in tables.load()},
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def _measured(table: Table, interpreter: Path | None) -> dict[str, Any]:
    each: dict[str, dict[str, list[float]]] = {group: {} for group in table.values}
    for split in table.splits:
        for group in table.values:
            known, targets, new, truth = _given(table, split, group)
            for name, way in regressions.EVERY.items():
                if name == "IterativeImputer" and known.shape[1] > regressions.MAX_CHAINED:
                    continue
                if name == "MissForest" and interpreter is None:
                    continue
                predicted = regressions.predict(way, known, targets, new)
                each[group].setdefault(name, []).append(tables.error(predicted, truth, targets))
        if interpreter is not None:
            for name in MULTIVAE:
                for group, predicted in _of_multivae(interpreter, name, table, split).items():
                    _, targets, _, truth = _given(table, split, group)
                    each[group].setdefault(name, []).append(tables.error(predicted, truth, targets))
        newest = {group: {name: round(found[-1], 3) for name, found in of.items()} for group, of in each.items()}
        print(table.name, newest, flush=True)
    means = {group: {name: float(np.mean(found)) for name, found in of.items()} for group, of in each.items()}
    return {"digest": digest(table), "errors": means}


def _given(table: Table, split: Split, group: str) -> tuple[regressions.Array, ...]:
    """The other groups and the group itself, of the training rows and then of the test rows."""
    others = np.concatenate([values for name, values in table.values.items() if name != group], axis=1).astype(float)
    own = table.values[group].astype(float)
    return others[split.training], own[split.training], others[split.test], own[split.test]


def _of_multivae(interpreter: Path, name: str, table: Table, split: Split) -> dict[str, regressions.Array]:
    """group -> its prediction from all others, by a model that is trained on standardised values."""
    scalers = {group: StandardScaler().fit(values[split.training]) for group, values in table.values.items()}
    scaled = {group: scalers[group].transform(values) for group, values in table.values.items()}
    parts = {"training": split.training, "test": split.test}
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "in.npz", Path(folder) / "out.npz"
        arrays = {f"{part} {group}": scaled[group][rows] for part, rows in parts.items() for group in scaled}
        np.savez(before, **arrays)
        subprocess.run([interpreter, SCRIPT, name, before, after], check=True, capture_output=True)
        found = np.load(after)
        return {group: scalers[group].inverse_transform(found[group]) for group in scaled}


def _pin(package: str) -> str:
    pins = (venvs.PINS / "multivae.txt").read_text().split()
    return next(pin.partition("==")[2] for pin in pins if pin.startswith(f"{package}=="))
