"""Stored responses of requests with an idempotency key, written in the transaction of the request."""

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.access.tables import IdempotencyKey
from service.shared.database import now
from service.shared.errors import BadInput, Fault

KEPT_SECONDS = 24 * 3600
HEADER = "idempotency-key"


def is_used(session: Session, project_id: str, key: str) -> bool:
    """Whether a response is stored under this key."""
    return session.get(IdempotencyKey, (project_id, key)) is not None


def find(session: Session, project_id: str, key: str, fingerprint: str) -> dict[str, Any] | None:
    """The stored response of this request, or None. The key stays locked until the transaction ends.

    Raises BadInput if the key was used for another request.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has a single writer
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{project_id} {key}", 0))))
    stored = session.get(IdempotencyKey, (project_id, key))
    if stored is None:
        return None
    if stored.fingerprint != fingerprint:
        detail = f"the idempotency key {key[:80]!r} was used for another request, expected a new key per request"
        raise BadInput([Fault(HEADER, "idempotency_key_reused", detail)], code="idempotency_key_reused")
    return stored.answer


def keep(session: Session, project_id: str, key: str, fingerprint: str, answer: dict[str, Any]) -> None:
    """Store a response for one day."""
    session.add(IdempotencyKey(project_id=project_id, key=key, fingerprint=fingerprint, answer=answer))


def delete_old(session: Session) -> None:
    """Delete the responses that are older than one day."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now(-KEPT_SECONDS)))
