"""Response bodies of workers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Worker(BaseModel):
    """A process that does jobs."""

    id: str
    host: str
    queue: str
    devices: list[str]
    versions: dict[str, Any]
    busy: bool
    job: str | None = Field(description="The job it does, where that is the caller's.")
    started_at: datetime
    heartbeat_at: datetime


class Workers(BaseModel):
    """The workers that are alive."""

    workers: list[Worker]
