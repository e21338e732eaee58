"""Converts the standard error of a child process, where libraries write plain text, to JSON lines."""

import json
from datetime import UTC, datetime


class JsonLines:
    """Takes text in chunks and returns whole lines, each a JSON object."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        """The lines that this chunk completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        return "".join(map(as_json, lines))

    def end(self) -> str:
        """The last line, if it has no line break."""
        rest, self._rest = self._rest, ""
        return as_json(rest) if rest else ""


def as_json(line: str) -> str:
    """One line as a JSON object with a line break. A line that is a JSON object stays as it is."""
    if line.startswith("{"):
        try:
            json.loads(line)
        except ValueError:
            pass
        else:
            return line + "\n"
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    event = {"event": line, "level": "info", "logger": "standard_error", "timestamp": timestamp}
    return json.dumps(event, ensure_ascii=False) + "\n"
