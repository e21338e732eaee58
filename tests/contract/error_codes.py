"""Which `code` the problem documents of the service can have, found in its source."""

import ast
from collections.abc import Iterator
from pathlib import Path

from service.shared import errors

SERVICE = Path(__file__).parents[2] / "service"
# Errors that the framework raises are called by the phrase of their status.
OF_THE_FRAMEWORK = {"not_found", "method_not_allowed"}
# Where in a call the code stands; first, where nothing is said. Of NotFound it is the kind of what is missing.
PLACES = {"BadInput": 1, "NotOurs": 1, "Refusal": 1}


def codes() -> dict[str, set[str]]:
    """Every code, with the files that give it."""
    found = {code: {"the framework"} for code in OF_THE_FRAMEWORK}
    for path in sorted(SERVICE.rglob("*.py")):
        if path.is_relative_to(SERVICE / "cli"):  # its errors are printed
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        given = _defaults(tree) if path == Path(errors.__file__) else _given(tree)
        for code in given:
            found.setdefault(code, set()).add(str(path.relative_to(SERVICE)))
    return found


def _defaults(tree: ast.AST) -> Iterator[str]:
    """The codes that classes of errors give themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
            yield from _literals(node.args[0])
        elif isinstance(node, ast.FunctionDef):
            for argument, default in zip(reversed(node.args.args), reversed(node.args.defaults), strict=False):
                if argument.arg == "code":
                    yield from _literals(default)


def _given(tree: ast.AST) -> Iterator[str]:
    """The codes that a file gives to the errors that it makes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        kind = getattr(errors, name, None)
        if not (name == "Refusal" or (isinstance(kind, type) and issubclass(kind, errors.SensoriumError))):
            continue
        if name in ("StorageFull", "TimedOut", "Misconfigured"):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        place = PLACES.get(name, 0)
        code = given.get("code") or (node.args[place] if len(node.args) > place else None)
        if name == "NotFound":
            yield from (f"{kind.replace(' ', '_')}_not_found" for kind in _literals(node.args[0]))
        elif code is not None and name != "Forbidden":
            yield from _literals(code)
        elif "code" in given:
            yield from _literals(given["code"])


def _literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
