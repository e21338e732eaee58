"""Liveness and readiness of the API process."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from service.http.dependencies import Web
from service.http.error_responses import errors

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process is alive."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = Field(description="Always `ok`: a process that is not alive does not answer.")


class Readiness(BaseModel):
    """Requests can be served."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "impaired": []}]})

    status: Literal["ok", "degraded"] = Field(
        description="degraded: jobs are accepted, but requests that need an impaired part wait or are refused."
    )
    impaired: list[str] = Field(description="The parts that do not answer or are full: `broker`, `storage`.")


@router.get("/healthz", operation_id="healthz", summary="Check that the process is alive")
async def healthz() -> Health:
    """Whether the process is alive."""
    # async: all threads may wait for a database that hangs
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Check that the process can serve requests",
    responses=errors("database_unavailable"),
)
def readyz(request: Request, services: Web) -> Readiness:
    """Whether the process can serve requests: 503 without the database.

    Without the broker, or with a full disk, it can serve most of them: `degraded`.
    """
    services.database.check()
    well = {"broker": request.app.state.broker_watch.answers(), "storage": not services.storage.space.full()}
    impaired = [part for part, is_well in well.items() if not is_well]
    return Readiness(status="degraded" if impaired else "ok", impaired=impaired)
