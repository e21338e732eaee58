"""One description of a JSON syntax error for all parsers, instead of each parser's own message."""

from json import JSONDecodeError

SHOWN_CHARACTERS = 20


def where(text: str, position: int) -> str:
    """The text at the parser's error, its line and column, and the expectation."""
    if not text:  # parsers report an empty text for bytes that are not UTF-8
        return "it is empty, or not UTF-8, expected JSON"
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    rest = text[position : position + SHOWN_CHARACTERS]
    return f"{repr(rest) if rest else 'the end'} at line {line}, column {column}, expected valid JSON"


def reason(error: JSONDecodeError) -> str:
    """The description for a parser's error."""
    return where(error.doc, error.pos)
