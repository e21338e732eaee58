"""Where a text stops being JSON. The words of the parsers differ from one to the next, and speak of their internals."""

from json import JSONDecodeError

SHOWN_CHARACTERS = 20


def where(text: str, position: int) -> str:
    """The place at which a parser gave up, what stands there, and what was expected."""
    if not text:  # of bytes that are not UTF-8 no parser keeps any
        return "it is empty, or not UTF-8, expected JSON"
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    rest = text[position : position + SHOWN_CHARACTERS]
    return f"{repr(rest) if rest else 'the end'} at line {line}, column {column}, expected valid JSON"


def reason(error: JSONDecodeError) -> str:
    """The same, by the error of a parser."""
    return where(error.doc, error.pos)
