"""The `Idempotency-Key` header: a create request that is repeated creates nothing more and gets the same answer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.access import audit, idempotent_answers
from service.http.dependencies import Caller
from service.shared.database import Database

REPLAYED = "Idempotent-Replayed"
DESCRIPTION = (
    "A name for this request, at most 255 printable characters. A repetition within a day, with the same body, creates "
    "nothing more and gets the same answer, without secrets that are shown once."
)

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Once:
    """A request that does its work once per idempotency key. Without a key it does it every time."""

    key: str | None
    project_id: str
    asked: str
    """Method, path, query and a digest of the content."""
    response: Response

    def about(self, content: str) -> "Once":
        """The request with its content added. content: a digest."""
        return replace(self, asked=f"{self.asked} {content}")

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
            shown = answer.model_dump(mode="json", by_alias=False)
            hidden = {secret: None} if secret is not None else {}
            idempotent_answers.keep(session, self.project_id, self.key, self._fingerprint(), shown | hidden)
            return answer

    def _find(self, session: Session, answered_by: type[Answer]) -> Answer | None:
        if self.key is None:
            return None
        kept = idempotent_answers.find(session, self.project_id, self.key, self._fingerprint())
        if kept is None:
            return None
        self.response.headers[REPLAYED] = "true"
        return answered_by.model_validate(kept)

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.asked.encode()).hexdigest()


async def _of_call(
    request: Request,
    response: Response,
    caller: Caller,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern="^[ -~]+$", description=DESCRIPTION),
    ] = None,
) -> Once:
    asked = f"{request.method} {request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
    return Once(key, caller.project_id, asked, response)


async def _of_body(request: Request, once: Annotated[Once, Depends(_of_call)]) -> Once:
    return once.about(hashlib.sha256(await request.body()).hexdigest())


OnceByCall = Annotated[Once, Depends(_of_call)]
OnceByBody = Annotated[Once, Depends(_of_body)]
