"""`python -m tests.contract.store_errors` stores the answer to every request of `error_requests`.

Run it after a change of an error, and review the difference of the fixtures with the change.
"""

import json
import shutil
import threading

from tests.contract.error_requests import LIMITED, NO_ROOM, SMALL_LIMITS, WITHOUT_ROOM
from tests.contract.error_target import ROOT, described, target
from tests.fixtures.upgrade.installation import Body

STORED = ROOT / "tests" / "fixtures" / "api" / "errors"
COMMAND = "python -m tests.contract.store_errors"


def answers() -> dict[str, Body]:
    """The responses to all requests, by name, without the parts that vary."""
    found: dict[str, Body] = {}
    slow = "request_timeout"  # the server waits for 15 s
    with target(SMALL_LIMITS) as limited:
        waiting = threading.Thread(target=lambda: found.update({slow: described(LIMITED[slow](limited))}))
        waiting.start()
        found |= {name: described(ask(limited)) for name, ask in LIMITED.items() if name != slow}
        waiting.join()
    with target(NO_ROOM) as full:
        found |= {name: described(ask(full)) for name, ask in WITHOUT_ROOM.items()}
    return dict(sorted(found.items()))


def canonical(answer: Body) -> str:
    """The text of a fixture."""
    return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Store the answers."""
    shutil.rmtree(STORED, ignore_errors=True)
    STORED.mkdir()
    for name, answer in answers().items():
        (STORED / f"{name}.json").write_text(canonical(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
