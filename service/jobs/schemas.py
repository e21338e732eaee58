"""Response bodies of workers."""

from datetime import datetime

from pydantic import BaseModel, Field


class Worker(BaseModel):
    """A process that runs jobs."""

    id: str = Field(description="Id of the worker.")
    host: str = Field(description="Name of its machine.")
    queue: str = Field(description="Kind of its jobs: `train`, `data` or `infer`.")
    devices: list[str] = Field(description="Devices that it computes on: `cpu`, or the ids of CUDA devices.")
    versions: dict[str, str] = Field(description="Name of a library, or `python` -> its version.")
    busy: bool = Field(description="Whether it has a job.")
    job: str | None = Field(description="Its current job, if the job belongs to the caller's project.")
    started_at: datetime = Field(description="When it started.")
    heartbeat_at: datetime = Field(description="When it last reported that it is alive.")


class Workers(BaseModel):
    """The live workers."""

    workers: list[Worker] = Field(description="All live workers.")
