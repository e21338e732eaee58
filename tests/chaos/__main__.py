"""`python -m tests.chaos`: 200 runs with a fault every few seconds, then 60 runs with the default settings."""

import argparse

from rich.console import Console
from rich.table import Table

from tests.chaos.harness import Outcome, inject_faults
from tests.chaos.stack import SHORT


def main() -> None:
    """Print the injected faults and the outcomes; exit with status 1 if an outcome is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--every-seconds", type=float, default=3.0)
    parser.add_argument("--default-runs", type=int, default=60, help="runs at the default settings")
    chosen = parser.parse_args()
    passes = {"short leases": (chosen.runs, SHORT), "defaults": (chosen.default_runs, {})}
    outcomes = {
        name: inject_faults(runs, settings, chosen.every_seconds) for name, (runs, settings) in passes.items() if runs
    }
    for name, outcome in outcomes.items():
        _show(name, outcome)
    if any(outcome.wrong for outcome in outcomes.values()):
        raise SystemExit(1)


def _show(name: str, outcome: Outcome) -> None:
    table = Table("", name)
    table.add_row("runs", str(outcome.runs))
    for fault, count in sorted(outcome.faults.items()):
        table.add_row(fault.replace("_", " "), str(count))
    table.add_row("faults", str(outcome.faults.total()))
    table.add_row("attempts", str(outcome.attempts))
    table.add_row("preemptions", str(outcome.preemptions))
    table.add_row("runs lost", str(outcome.lost))
    table.add_row("duplicates", str(outcome.duplicates))
    table.add_row("longest stall", f"{outcome.longest_stall_seconds:.1f} s")
    table.add_row("wall time", f"{outcome.seconds:.0f} s")
    Console().print(table)
    for wrong in outcome.wrong:
        Console().print(wrong, style="red")


if __name__ == "__main__":
    main()
