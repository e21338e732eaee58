"""What an inference call brings along, and the routes that find it out: once, and without FastAPI's help."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Request, Response
from starlette.types import Receive, Scope, Send

from service.access.operations import Principal
from service.http_protocol import IS_GONE
from service.inference import sizes
from service.inference.batcher import Answered, Batcher
from service.inference.payload import Array, Rows, shown
from service.inference.questions import Question, Version
from service.inference.versions import VersionCache
from service.keyed import KeyedRoute
from service.registry.schemas import ALIAS_PATTERN, AliasName
from service.shared.errors import BadInput, Fault
from service.shared.names import REFERENCE_PATTERN, Reference
from service.web import PRINCIPAL, Services

MOST_VERSION = 2**31 - 1
_DIGITS = re.compile("[0-9]{1,10}")
_NAME = re.compile(REFERENCE_PATTERN)
_ALIAS = re.compile(ALIAS_PATTERN)


@dataclass(frozen=True, slots=True)
class Call:
    """One request about one version."""

    request: Request
    version: Version
    caller: Principal
    services: Services
    batcher: Batcher

    async def ask(self, question: Question, rows: Rows, state: Array | None, timeout_seconds: float) -> Answered:
        """The answer about these rows, unless the client has gone before it is computed."""
        numbers = sizes.check(question, rows, self.version.config)
        return await self.batcher.ask(question, rows, state, timeout_seconds, is_gone(self.request), numbers)


Answer = Callable[[Call], Awaitable[Response]]


def by_number(answer: Answer) -> Callable[..., Awaitable[Response]]:
    """An endpoint about a version by its number."""

    async def endpoint(
        request: Request, name: Reference, version: Annotated[int, Path(ge=1, le=MOST_VERSION)]
    ) -> Response:
        return await answer(await _call(request, name, str(version)))

    return endpoint


def by_alias(answer: Answer) -> Callable[..., Awaitable[Response]]:
    """An endpoint about the version that an alias names."""

    async def endpoint(request: Request, name: Reference, alias: AliasName) -> Response:
        return await answer(await _call(request, name, alias))

    return endpoint


class CallRoute(KeyedRoute):
    """Calls its endpoint with what stands in the path, checked as the endpoint's signature says.

    FastAPI reads the signature for its document. To solve it as it does for any route, for every request, would take a
    quarter of all the time that inference takes.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app = self._answer

    def check(self, path: dict[str, str]) -> None:
        """Raise BadInput with the first part of a path that cannot be what its endpoint says."""
        check_name(path)
        version, alias = path.get("version"), path.get("alias")
        if alias is not None and not _ALIAS.fullmatch(alias):
            raise _bad("alias", alias, "a letter, then letters, digits, - and _")
        if version is not None and not (_DIGITS.fullmatch(version) and 1 <= int(version) <= MOST_VERSION):
            raise _bad("version", version, f"an integer from 1 to {MOST_VERSION}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = Request(scope, receive), scope["path_params"]
        self.check(path)
        response = await self.endpoint(request, **path)
        await response(scope, receive, send)


def is_gone(request: Request) -> Callable[[], bool]:
    """A function that says whether the client of a request has gone."""
    gone: Callable[[], bool] = request.scope.get(IS_GONE, _never)
    return gone


def _never() -> bool:
    return False


async def _call(request: Request, name: str, reference: str) -> Call:
    state, caller = request.app.state, request.scope[PRINCIPAL]
    versions: VersionCache = state.versions
    version = versions.known(caller.project_id, name, reference)
    if version is None:
        version = await versions.find(caller.project_id, name, reference)
    return Call(request, version, caller, state.services, state.batcher)


def check_name(path: dict[str, str], *parts: str) -> None:
    """Raise BadInput where the name in a path, or another of its parts, is no reference to anything."""
    for part in ("name", *parts):
        if not _NAME.fullmatch(path.get(part, "-")):
            raise _bad(part, path[part], "up to 200 printable characters")


def _bad(place: str, came: str, expected: str) -> BadInput:
    return BadInput([Fault(place, f"bad_{place}", f"{place} is {shown(came)}, expected {expected}")])
