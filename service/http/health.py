"""Whether a process lives, and whether it can serve."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.http.dependencies import Web

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Requests can be served."""

    status: Literal["ok", "degraded"] = Field(
        description="degraded: jobs are accepted, and what `impaired` names waits or is refused."
    )
    impaired: list[str] = Field(description="The parts that are away or full: `broker`, `storage`.")


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Whether the process lives. In the event loop: threads may all wait for a database that hangs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz")
def readyz(request: Request, services: Web) -> Readiness:
    """Whether requests can be served. Without the database they cannot: 503.

    Without the broker, or with a full disk, most can: degraded.
    """
    services.database.check()
    well = {"broker": request.app.state.broker_watch.answers(), "storage": not services.storage.space.full()}
    impaired = [part for part, is_well in well.items() if not is_well]
    return Readiness(status="degraded" if impaired else "ok", impaired=impaired)
