"""What is wrong with a file, up to a number that a person still reads."""

from service.datasets.layout import MOST_FAULTS
from service.shared.errors import BadInput, Fault, pointer


class Faults:
    """Faults in the order they were found; more than 100 are not kept."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def room(self) -> int:
        """How many more are kept."""
        return MOST_FAULTS - len(self._found)

    def add(self, fault: Fault) -> None:
        """Keep a fault. Raises BadInput with all of them when there is no room for more."""
        self._found.append(fault)
        if not self.room():
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise BadInput with all that were found."""
        if self._found:
            raise BadInput(self._found)


def no_value(column: str) -> Fault:
    """No row has a value in this column, so that there is nothing a model could learn of it."""
    detail = f"no row of column {column!r} has a value, expected at least one; ignore it"
    return Fault(pointer(column), "no_value", detail)
