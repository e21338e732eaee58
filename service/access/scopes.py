"""What a key may do, and what each call needs."""

from collections.abc import Iterable
from enum import Enum
from typing import Literal, get_args

from service.shared.errors import Forbidden

Scope = Literal["read", "write", "infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

ADMINISTRATION = "administration"
INFERENCE = "inference"
READING = ("GET", "HEAD", "OPTIONS")
CHANGING: tuple[Scope, ...] = ("write", "admin")


def needed(method: str, tags: Iterable[str | Enum]) -> Scope:
    """The scope that a call needs: by the tags of its route, and else by its method."""
    if ADMINISTRATION in tags:
        return "admin"
    if INFERENCE in tags:
        return "infer"
    return "read" if method in READING else "write"


def require(scope: Scope, has: frozenset[str]) -> None:
    """Raise Forbidden when a key lacks a scope."""
    if scope not in has:
        raise Forbidden(scope, f"this call needs the scope {scope!r}, the key has {', '.join(sorted(has)) or 'none'}")
