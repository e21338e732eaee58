"""The values of `code` in the problem documents of the service, found in its source."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.shared import errors

SERVICE = Path(__file__).parents[2] / "service"
# Errors of the framework have the phrase of their status as code.
OF_THE_FRAMEWORK = {"not_found", "method_not_allowed"}
# The position of the code among the arguments: first by default. None: the class sets it.
PLACES = {"BadInput": 1, "InvalidToken": 1, "Forbidden": 2, "Refusal": 1, "StorageFull": None, "TimedOut": None}

NEVER_SENT = {
    "client_gone": "the client has closed its connection and reads no answer",
    "misconfigured": "ends a process that starts",
}
"""The codes of errors that are no responses, each with the reason."""

Trees = Mapping[Path, ast.Module]


def codes() -> dict[str, set[str]]:
    """Every code, with the files that use it."""
    # the errors of the command line are printed, those of settings end a process
    paths = [path for path in sorted(SERVICE.rglob("*.py")) if not path.is_relative_to(SERVICE / "cli")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    kinds = _kinds(trees)
    found = {code: {"the framework"} for code in OF_THE_FRAMEWORK}
    for path, tree in trees.items():
        for code in (*_of_classes(tree, kinds), *_of_calls(tree, kinds)):
            found.setdefault(code, set()).add(str(path.relative_to(SERVICE)))
    return found


def _kinds(trees: Trees) -> dict[str, str]:
    """The classes of errors by name, each with the one in `errors` whose arguments it takes."""
    kinds = {
        name: name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.SensoriumError)
    }
    kinds["Refusal"] = "Refusal"  # of the HTTP protocol, before a request reaches the application
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    count = 0
    while count < len(kinds):
        count = len(kinds)
        for node in classes:
            for base in node.bases:
                name = ast.unparse(base).rpartition(".")[2]
                if name in kinds:
                    kinds.setdefault(node.name, kinds[name])
    return kinds


def _of_classes(tree: ast.Module, kinds: Mapping[str, str]) -> Iterator[str]:
    """The codes that classes of errors give themselves: to the class above, or as the default of an argument."""
    for kind in ast.walk(tree):
        if not (isinstance(kind, ast.ClassDef) and kind.name in kinds):
            continue
        for node in ast.walk(kind):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
                yield from _literals(node.args[0])
            elif isinstance(node, ast.FunctionDef):
                for argument, default in zip(reversed(node.args.args), reversed(node.args.defaults), strict=False):
                    if argument.arg == "code":
                        yield from _literals(default)


def _of_calls(tree: ast.Module, kinds: Mapping[str, str]) -> Iterator[str]:
    """The codes that a file gives to the errors that it makes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        kind = kinds.get(ast.unparse(node.func).rpartition(".")[2])
        if kind is None:
            continue
        if kind == "NotFound":
            yield from (f"{missing.replace(' ', '_')}_not_found" for missing in _literals(node.args[0]))
            continue
        place = PLACES.get(kind, 0)
        named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        for given in named or (node.args[place : place + 1] if place is not None else []):
            yield from _literals(given)


def _literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
