"""Collects the faults of a file, up to a number that a person can still read."""

from service.datasets.layout import MAX_FAULTS
from service.shared.errors import BadInput, Fault, pointer


class Faults:
    """Faults in the order in which they were found, at most 100."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def room(self) -> int:
        """The number of faults that can still be added."""
        return MAX_FAULTS - len(self._found)

    def add(self, fault: Fault) -> None:
        """Add a fault. Raises BadInput with all faults when the maximum is reached."""
        self._found.append(fault)
        if not self.room():
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise BadInput with all faults, if there are any."""
        if self._found:
            raise BadInput(self._found)


def no_value(column: str) -> Fault:
    """The fault of a column in which no row has a value: a model could learn nothing about it."""
    detail = f"no row of column {column!r} has a value, expected at least one; ignore it"
    return Fault(pointer(column), "no_value", detail)
