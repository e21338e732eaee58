"""Pages of lists. A signed token contains the key of the last item of the previous page, such as its id."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from service.http.dependencies import services_of
from service.http.query_parameters import PageQuery
from service.shared.errors import Fault, InvalidToken
from service.shared.signing import Forged

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page:
    """The part of a list to return: at most `size` items after the key `after`."""

    size: int
    after: str | None
    token_of: Callable[[str], str]

    def cut(self, rows: Sequence[tuple[str, Item]]) -> tuple[list[Item], str | None]:
        """The items of this page and the token of the next one, if any. rows: up to `size` + 1 pairs (key, item)."""
        page_rows = rows[: self.size]
        token = None
        if len(rows) > self.size:
            token = self.token_of(page_rows[-1][0])
        return [item for _, item in page_rows], token

    def response(self, field: str, rows: Iterable[tuple[str, BaseModel]]) -> Response:
        """This page as JSON, with its items in `field`.

        For items that may be large: a plain `def` route writes them in its thread. FastAPI would write the whole page
        in the event loop: 0.4 s for 200 versions of a dataset with 1,000 modalities. Rows that come
        few by few are never all in memory: collecting garbage among a page's millions of objects takes as long, and
        stops all threads.
        """
        written = [(key, item.model_dump_json(by_alias=True).encode()) for key, item in rows]
        items, token = self.cut(written)
        content = b'{"%b":[%b],"next_page_token":%b}' % (field.encode(), b",".join(items), orjson.dumps(token))
        return Response(content, media_type="application/json")


def page_of(query: PageQuery, request: Request, order: str = "") -> Page:
    """The requested page. order: the one that the client chose, if any: the tokens of each order are its own.

    Raises InvalidToken if the token is not valid for this list.
    """
    signer, purpose = services_of(request).signer, f"page of {request.scope['path']}{order and f' by {order}'}"

    def token_of(last: str) -> str:
        return signer.sign(purpose, last)

    if query.page_token is None:
        return Page(query.page_size, None, token_of)
    try:
        return Page(query.page_size, signer.read(purpose, query.page_token), token_of)
    except Forged as error:
        token = query.page_token[:40]
        detail = f"page_token is {token!r}, expected the next_page_token of the previous page of this list"
        raise InvalidToken([Fault("?page_token", "invalid_page_token", detail)], "invalid_page_token") from error
