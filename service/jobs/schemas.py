"""Response bodies of workers."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


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


class WorkerPage(BaseModel):
    """One page of live workers, in the order of their start."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workers": [
                        {
                            "id": "wrk_01KA3M5Y3A5C7E9G1J3M5P7R9S",
                            "host": "node-1",
                            "queue": "data",
                            "devices": ["cpu"],
                            "versions": {
                                "python": "3.11.14",
                                "sensorium": "0.1.0",
                                "torch": "2.13.0",
                                "numpy": "2.4.1",
                            },
                            "busy": True,
                            "job": "job_01KA3M6D2E3G5J7M9N1Q3S5U7W",
                            "started_at": "2026-11-26T23:10:03.118000Z",
                            "heartbeat_at": "2026-11-26T23:18:01.402000Z",
                        }
                    ],
                    "next_page_token": None,
                }
            ]
        }
    )

    workers: list[Worker] = Field(description="The workers of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")
