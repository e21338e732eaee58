"""The scopes of API keys, and the scope that each call needs."""

from collections.abc import Iterable
from enum import Enum
from typing import Literal, get_args

from service.shared.errors import Forbidden

Scope = Literal["read", "write", "infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

ADMINISTRATION = "administration"
INFERENCE = "inference"
IDENTITY = "identity"
READING = ("GET", "HEAD", "OPTIONS")
CHANGING: tuple[Scope, ...] = ("write", "admin")


def needed(method: str, tags: Iterable[str | Enum]) -> Scope | None:
    """The scope that a call needs, by the tags of its route, else by its method. None: any valid key may call it."""
    if IDENTITY in tags:
        return None
    if ADMINISTRATION in tags:
        return "admin"
    if INFERENCE in tags:
        return "infer"
    return "read" if method in READING else "write"


def require(scope: Scope | None, has: frozenset[str]) -> None:
    """Raise Forbidden if a key lacks the scope that a call needs."""
    if scope is not None and scope not in has:
        scopes = f"the scopes {', '.join(sorted(has))}" if has else "no scopes"
        raise Forbidden(scope, f"the key has {scopes}, this call needs the scope {scope!r}: use another key")
