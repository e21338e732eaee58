"""The `Idempotency-Key` header: a repeated create request creates nothing, and gets the stored response."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.access import audit, idempotent_answers
from service.http.dependencies import Caller
from service.shared.database import Database

REPLAYED = "Idempotent-Replayed"
DESCRIPTION = (
    "A unique key for this request, at most 255 printable characters. A repetition with the same body within one day "
    "creates nothing, and gets the same response without secrets."
)

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Once:
    """Does the work of a request once per idempotency key; without a key, every time."""

    key: str | None
    project_id: str
    request_text: str
    """Method, path, query and a digest of the content."""
    response: Response

    def about(self, content: str) -> "Once":
        """The same with the digest of the request's content."""
        return replace(self, request_text=f"{self.request_text} {content}")

    def was_sent(self, database: Database) -> bool:
        """Whether the key was used before, for this or another request."""
        if self.key is None:
            return False
        with database.reader() as session:
            return idempotent_answers.is_used(session, self.project_id, self.key)

    def answered(self, database: Database, answered_by: type[Answer]) -> Answer | None:
        """The stored answer of this request, for work that also writes files.

        Raises BadInput when the key was used for another request.
        """
        with database.reader() as session:
            return self._find(session, answered_by)

    def do(
        self,
        database: Database,
        work: Callable[[Session], Answer],
        answered_by: type[Answer],
        secret: str | None = None,
    ) -> Answer:
        """Do the work and store its answer without the field `secret`, in one transaction; or return the stored answer.

        Concurrent repetitions wait for each other. Raises BadInput when the key was used for another request.
        """
        with database.writer.begin() as session:
            if self.key is None:
                return work(session)
            if (again := self._find(session, answered_by)) is not None:
                audit.skip()
                return again
            answer = work(session)
            fields = answer.model_dump(mode="json", by_alias=False)
            hidden = {secret: None} if secret is not None else {}
            idempotent_answers.keep(session, self.project_id, self.key, self._fingerprint(), fields | hidden)
            return answer

    def _find(self, session: Session, answered_by: type[Answer]) -> Answer | None:
        if self.key is None:
            return None
        stored = idempotent_answers.find(session, self.project_id, self.key, self._fingerprint())
        if stored is None:
            return None
        self.response.headers[REPLAYED] = "true"
        return answered_by.model_validate(stored)

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.request_text.encode()).hexdigest()


async def _of_call(
    request: Request,
    response: Response,
    caller: Caller,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern="^[ -~]+$", description=DESCRIPTION),
    ] = None,
) -> Once:
    # a repetition may wait for another time, or not at all
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "wait"])
    request_text = f"{request.method} {request.scope['path']}?{query}"
    return Once(key, caller.project_id, request_text, response)


async def _of_body(request: Request, once: Annotated[Once, Depends(_of_call)]) -> Once:
    return once.about(hashlib.sha256(await request.body()).hexdigest())


OnceByCall = Annotated[Once, Depends(_of_call)]
OnceByBody = Annotated[Once, Depends(_of_body)]
