"""Purges datasets and models that were deleted long ago."""

from sqlalchemy.orm import Session

from service.datasets import deletion as datasets
from service.registry import deletion as registry

SECONDS_PER_DAY = 86_400.0


def purge(session: Session, days: float) -> None:
    """Purge what was deleted longer ago than `days`; a bounded number in one call, the rest in later ones."""
    datasets.purge_expired(session, days * SECONDS_PER_DAY)
    registry.purge_expired(session, days * SECONDS_PER_DAY)
