"""Lists come in pages: the items after a signed token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request

from service.http.dependencies import services_of
from service.http.query_parameters import PageQuery
from service.shared.errors import Fault, NotOurs
from service.shared.signing import Forged

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page:
    """The part of a list to return: at most `size` items after the id `after`."""

    size: int
    after: str | None
    token_of: Callable[[str], str]

    def cut(self, found: Sequence[tuple[str, Item]]) -> tuple[list[Item], str | None]:
        """The items of this page and the token of the next one, if any. found: up to `size` + 1 pairs (id, item)."""
        shown = found[: self.size]
        token = None
        if len(found) > self.size:
            token = self.token_of(shown[-1][0])
        return [item for _, item in shown], token


def page_of(query: PageQuery, request: Request) -> Page:
    """The page that a request asks for. Raises NotOurs if the token is not one of this list."""
    signer, purpose = services_of(request).signer, f"page of {request.scope['path']}"

    def token_of(last: str) -> str:
        return signer.sign(purpose, last)

    if query.page_token is None:
        return Page(query.page_size, None, token_of)
    try:
        return Page(query.page_size, signer.read(purpose, query.page_token), token_of)
    except Forged as error:
        came = query.page_token[:40]
        detail = f"page_token is {came!r}, expected the next_page_token of this list's page before"
        raise NotOurs([Fault("?page_token", "invalid_page_token", detail)], "invalid_page_token") from error
