"""Response bodies of lineage."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.datasets.schemas import SHA256, StoredSource


class DatasetUser(BaseModel):
    """A run of a dataset version, or a model version that was trained on it."""

    kind: Literal["run", "model version"] = Field(description="What uses the data.")
    name: str = Field(description="Id of the run, or MODEL/VERSION.")
    created_at: datetime = Field(description="When it was made.")


class DatasetLineage(BaseModel):
    """The source of a dataset version, and the runs and models that use it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dataset": "speech",
                    "version": 1,
                    "sha256": "0229e952c778533d046ba6a14ba1bdaafafb95ee93ec32de97eb0a19457001ba",
                    "source": {"upload": "upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H"},
                    "source_sha256": "ca66a8c9a490a39eabf5fd78730f0224bd1853aa918e323a530f5a8a24ba64aa",
                    "users": [
                        {"kind": "model version", "name": "speech/3", "created_at": "2026-11-26T23:18:02.310000Z"}
                    ],
                }
            ]
        }
    )

    dataset: str = Field(description="Name of the dataset.")
    version: int = Field(description="Number of the version.")
    sha256: SHA256 | None = Field(description="SHA-256 of the stored samples, hexadecimal; null until they are ready.")
    source: StoredSource = Field(description="Where the samples come from.")
    source_sha256: SHA256 | None = Field(description="Of the uploaded file, while it is kept.")
    users: list[DatasetUser] = Field(description="Newest first, at most 1000 of each kind.")
