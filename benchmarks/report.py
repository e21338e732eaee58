"""How every benchmark reports: a table to read, and JSON under var/benchmarks to keep."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path("var/benchmarks")


@dataclass(frozen=True)
class Figure:
    """One measured value and what it has to be: `bar` in words, None where it is only told."""

    name: str
    value: float
    unit: str
    bar: str | None
    holds: bool | None


def publish(benchmark: str, figures: Sequence[Figure]) -> None:
    """Print the table and write var/benchmarks/NAME.json; ends the process with 1 where a figure does not hold."""
    table = Table("figure", "value", "unit", "bar", "holds", title=benchmark)
    for figure in figures:
        holds = {True: "yes", False: "NO", None: ""}[figure.holds]
        table.add_row(figure.name, f"{figure.value:.4g}", figure.unit, figure.bar or "", holds)
    Console().print(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{benchmark}.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    if any(figure.holds is False for figure in figures):
        raise SystemExit(1)
