"""The modalities that a query imputes: those that are missing, in whole or in part, somewhere in its rows."""

from collections.abc import Mapping

from service.inference.queries import Config
from service.inference.row_decoding import MAX_FAULTS
from service.inference.rows import Rows
from service.shared.errors import BadInput, Fault

_EXPECTED = "expected a modality that is missing somewhere"


def of(rows: Rows, config: Config, named: Mapping[str, str]) -> list[str]:
    """The targets: those that the request names, by default all that are missing somewhere.

    named: name -> where the request names it. Raises BadInput if a target is observed everywhere.
    """
    missing = [modality.name for modality in config.modalities if rows.is_missing_somewhere(modality.name)]
    if named:
        faults = [
            Fault(place, "nothing_missing", f"{name!r} is observed {_everywhere(rows)}, {_EXPECTED}")
            for name, place in named.items()
            if name not in missing
        ]
    else:
        detail = f"every modality is observed {_everywhere(rows)}, {_EXPECTED}"
        faults = [] if missing else [Fault("/inputs", "nothing_missing", detail)]
    if faults:
        raise BadInput(faults[:MAX_FAULTS])
    return [*named] or missing


def _everywhere(rows: Rows) -> str:
    """In words."""
    of_rows = f"all {rows.count} rows" if rows.count > 1 else "the only row"
    return f"in {of_rows}" if rows.lengths is None else f"at every step of {of_rows}"
