"""What a job's process writes to its standard error, as JSON lines: those of the libraries below it are none yet."""

import json
from datetime import UTC, datetime


class JsonLines:
    """Text comes in pieces; whole lines go out, each a JSON object."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        """The lines that this piece completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        return "".join(map(as_json, lines))

    def end(self) -> str:
        """The last line, if it was cut short."""
        rest, self._rest = self._rest, ""
        return as_json(rest) if rest else ""


def as_json(line: str) -> str:
    """A line as a JSON object, with its line break."""
    if line.startswith("{"):
        try:
            json.loads(line)
        except ValueError:
            pass
        else:
            return line + "\n"
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    said = {"event": line, "level": "info", "logger": "standard_error", "timestamp": timestamp}
    return json.dumps(said, ensure_ascii=False) + "\n"
