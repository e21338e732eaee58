"""Answers to requests that may be sent again, kept in the transaction that did what was asked."""

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.access.tables import IdempotencyKey
from service.shared.database import now
from service.shared.errors import BadInput, Fault

KEPT_SECONDS = 24 * 3600
HEADER = "idempotency-key"


def is_used(session: Session, project_id: str, key: str) -> bool:
    """Whether an answer is kept under a key, to whatever request."""
    return session.get(IdempotencyKey, (project_id, key)) is not None


def find(session: Session, project_id: str, key: str, fingerprint: str) -> dict[str, Any] | None:
    """The answer that was given to this request, or None; then nobody else answers it before the transaction ends.

    Raises BadInput when the key belongs to another request.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{project_id} {key}", 0))))
    kept = session.get(IdempotencyKey, (project_id, key))
    if kept is None:
        return None
    if kept.fingerprint != fingerprint:
        detail = f"the idempotency key {key[:80]!r} was used for another request; take a new one"
        raise BadInput([Fault(HEADER, "idempotency_key_reused", detail)], code="idempotency_key_reused")
    return kept.answer


def keep(session: Session, project_id: str, key: str, fingerprint: str, answer: dict[str, Any]) -> None:
    """Keep an answer for a day."""
    session.add(IdempotencyKey(project_id=project_id, key=key, fingerprint=fingerprint, answer=answer))


def forget_old(session: Session) -> None:
    """Delete the answers that were kept long enough."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now(-KEPT_SECONDS)))
