"""Response bodies of workers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Worker(BaseModel):
    """A process that runs jobs."""

    id: str
    host: str
    queue: str
    devices: list[str]
    versions: dict[str, Any]
    busy: bool
    job: str | None = Field(description="Its current job, if the job belongs to the caller's project.")
    started_at: datetime
    heartbeat_at: datetime


class Workers(BaseModel):
    """The live workers."""

    workers: list[Worker]
