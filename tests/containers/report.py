"""Prints the steps of the container tests with their durations, and a table of figures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


class Report:
    """Prints each step when it ends, and a table of figures at the end."""

    def __init__(self) -> None:
        self._console = Console(width=110)
        self._began_at = time.monotonic()
        self._figures: list[tuple[str, str]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A step; it fails if the block raises."""
        began_at = time.monotonic()
        try:
            yield
        except BaseException:
            self._console.print(f"[red]✗[/] {what}")
            raise
        self._console.print(f"✓ {what} [dim]{time.monotonic() - began_at:.1f} s[/]")

    def say(self, words: str) -> None:
        """Print text without markup."""
        self._console.print(words, markup=False, highlight=False)

    def figure(self, name: str, value: str) -> None:
        """Add a row to the table of figures."""
        self._figures.append((name, value))

    def close(self) -> None:
        """Print the table of figures."""
        table = Table("figure", "value")
        for row in self._figures:
            table.add_row(*row)
        self._console.print(table)
        self._console.print(f"{time.monotonic() - self._began_at:.0f} s in total")
