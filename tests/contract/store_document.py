"""`python -m tests.contract.store_document` writes the served OpenAPI document to the fixture that tests compare with.

Run it after a change of the API, and review the difference of the fixture with the change.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.contract.live import served_document

STORED = Path(__file__).parents[1] / "fixtures" / "api" / "openapi.json"
COMMAND = "python -m tests.contract.store_document"
MAX_SHOWN_CHARACTERS = 200


def canonical(document: Any) -> str:
    """The document with sorted keys, one value per line."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def differences(stored: Any, served: Any, path: str = "") -> Iterator[str]:
    """One line per value that differs: its JSON pointer, the stored value and the served value."""
    if isinstance(stored, dict) and isinstance(served, dict):
        for key in sorted({*stored, *served}):
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in served:
                yield f"{place}: is missing, stored is {_shown(stored[key])}"
            elif key not in stored:
                yield f"{place}: is new: {_shown(served[key])}"
            else:
                yield from differences(stored[key], served[key], place)
    elif isinstance(stored, list) and isinstance(served, list) and len(stored) == len(served):
        for place, (before, after) in enumerate(zip(stored, served, strict=True)):
            yield from differences(before, after, f"{path}/{place}")
    elif stored != served or type(stored) is not type(served):
        yield f"{path}: is {_shown(served)}, stored is {_shown(stored)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"


def main() -> None:
    """Store the served document."""
    with tempfile.TemporaryDirectory() as home:
        STORED.write_text(canonical(served_document(Path(home)).json()), encoding="utf-8")


if __name__ == "__main__":
    main()
