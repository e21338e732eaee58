"""Whether a process lives, and whether it can serve."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.web import Web

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Requests can be served."""

    status: Literal["ok", "degraded"] = Field(
        description="degraded: jobs are accepted, and what `impaired` names waits or is refused."
    )
    impaired: list[str] = Field(description="The parts that are away: `broker`.")


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Whether the process lives. In the event loop: threads may all wait for a database that hangs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="readyz")
def readyz(request: Request, services: Web) -> Readiness:
    """Whether requests can be served. Without the database they cannot: 503. Without the broker most can."""
    services.database.check()
    if not request.app.state.broker_watch.answers():
        return Readiness(status="degraded", impaired=["broker"])
    return Readiness(status="ok", impaired=[])
