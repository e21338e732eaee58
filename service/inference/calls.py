"""What an inference call brings along, and the routes that find it out: once, and without FastAPI's help."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from service.access.operations import Principal
from service.access.quotas import check_request_rows
from service.http import authentication
from service.http.authenticated_route import AuthenticatedRoute
from service.http.dependencies import PRINCIPAL, Services
from service.http.protocol import IS_GONE
from service.inference import reading, sizes, streaming
from service.inference.batcher import Answered, Batcher
from service.inference.questions import Operation, Question, Version
from service.inference.reading import About, Asked
from service.inference.values import Array, shown
from service.inference.versions import VersionCache
from service.registry.schemas import ALIAS_PATTERN, AliasName
from service.shared.errors import BadInput, Fault
from service.shared.parser_process import ReadingProcess
from service.shared.resource_names import REFERENCE_PATTERN, Reference

LARGE_STATE = 64 * 1024
"""Bytes of a state from which a thread signs it, checks it and takes it apart."""
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
    reading: ReadingProcess

    async def read(self, operation: Operation) -> Asked:
        """What the body asks for. Raises BadInput."""
        settings = self.services.settings
        about = About(self.version.model, self.version.config, settings.inference_rows, settings.inference_steps)
        asked = await reading.read(self.reading, operation, await self.request.body(), about)
        check_request_rows(asked.rows.count, self.caller.quotas.request_rows)
        return asked

    async def ask(self, asked: Asked) -> Answered:
        """The answer, unless the client has gone before it is computed."""
        state = await self._state(asked)
        question = Question(self.version, asked.operation, asked.arguments, state is not None)
        numbers = sizes.check(question, asked.rows, self.version.config)
        return await self.batcher.ask(question, asked.rows, state, asked.seconds, is_gone(self.request), numbers)

    async def packed(self, state: Array) -> str:
        """The token of states to go on from."""
        if state.nbytes < LARGE_STATE:
            return streaming.pack(self.services.signer, self.version, state)
        return await run_in_threadpool(streaming.pack, self.services.signer, self.version, state)

    async def _state(self, asked: Asked) -> Array | None:
        if asked.state is None or len(asked.state) < LARGE_STATE:
            return streaming.unpack(self.services.signer, self.version, asked.state, asked.rows.count)
        return await run_in_threadpool(
            streaming.unpack, self.services.signer, self.version, asked.state, asked.rows.count
        )


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


class CallRoute(AuthenticatedRoute):
    """Calls its endpoint with what stands in the path, checked as the endpoint's signature says.

    FastAPI reads the signature for its document. To solve it as it does for any route, for every request, would take a
    quarter of all the time that inference takes.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        name, methods = self.operation_id or self.name, self.methods or ()
        operation = authentication.Operation.of(name, self.path, methods, self.tags, self.endpoint)
        self.app = authentication.Authentication(self._answer, operation)

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
    return Call(request, version, caller, state.services, state.batcher, state.reading)


def check_name(path: dict[str, str], *parts: str) -> None:
    """Raise BadInput where the name in a path, or another of its parts, is no reference to anything."""
    for part in ("name", *parts):
        if not _NAME.fullmatch(path.get(part, "-")):
            raise _bad(part, path[part], "up to 200 printable characters")


def _bad(place: str, came: str, expected: str) -> BadInput:
    return BadInput([Fault(place, f"bad_{place}", f"{place} is {shown(came)}, expected {expected}")])
