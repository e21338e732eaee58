"""What was seen, step by step, with how long each took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


class Report:
    """Prints steps as they end, and figures in a table at the end."""

    def __init__(self) -> None:
        self._console = Console(width=110)
        self._began_at = time.monotonic()
        self._figures: list[tuple[str, str]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Something that has to hold."""
        began_at = time.monotonic()
        try:
            yield
        except BaseException:
            self._console.print(f"[red]✗[/] {what}")
            raise
        self._console.print(f"✓ {what} [dim]{time.monotonic() - began_at:.1f} s[/]")

    def say(self, words: str) -> None:
        """Print something as it is."""
        self._console.print(words, markup=False, highlight=False)

    def figure(self, name: str, value: str) -> None:
        """Something worth telling."""
        self._figures.append((name, value))

    def close(self) -> None:
        """Print the figures."""
        table = Table("figure", "value")
        for row in self._figures:
            table.add_row(*row)
        self._console.print(table)
        self._console.print(f"{time.monotonic() - self._began_at:.0f} s in all")
