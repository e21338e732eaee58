"""What an inference call brings along, found once: its version, by number or by alias, and all that answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from service.access.operations import Principal
from service.http_protocol import IS_GONE
from service.inference.batcher import Answered, Batcher
from service.inference.payload import Array, Rows
from service.inference.questions import Question, Version
from service.inference.versions import VersionCache
from service.registry.schemas import AliasName
from service.shared.names import Reference
from service.web import PRINCIPAL, Services


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
        return await self.batcher.ask(question, rows, state, timeout_seconds, is_gone(self.request))


def is_gone(request: Request) -> Callable[[], bool]:
    """A function that says whether the client of a request has gone."""
    gone: Callable[[], bool] = request.scope.get(IS_GONE, _never)
    return gone


def _never() -> bool:
    return False


async def _by_number(request: Request, name: Reference, version: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> Call:
    return await _call(request, name, str(version))


async def _by_alias(request: Request, name: Reference, alias: AliasName) -> Call:
    return await _call(request, name, alias)


# One dependency instead of five: FastAPI takes its time for each.
CallByNumber = Annotated[Call, Depends(_by_number)]
CallByAlias = Annotated[Call, Depends(_by_alias)]


async def _call(request: Request, name: str, reference: str) -> Call:
    state, caller = request.app.state, request.scope[PRINCIPAL]
    versions: VersionCache = state.versions
    version = versions.known(caller.project_id, name, reference)
    if version is None:
        version = await versions.find(caller.project_id, name, reference)
    return Call(request, version, caller, state.services, state.batcher)
