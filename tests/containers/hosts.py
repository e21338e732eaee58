"""Several hosts."""

from tests.containers.report import Report


def main(report: Report) -> None:
    """Being written."""
