"""Response bodies of lineage."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from service.datasets.schemas import SHA256, StoredSource


class DatasetUser(BaseModel):
    """A run of a dataset version, or a model version that was trained on it."""

    kind: Literal["run", "model version"] = Field(description="What uses the data.")
    name: str = Field(description="Id of the run, or MODEL/VERSION.")
    created_at: datetime = Field(description="When it was made.")


class DatasetLineage(BaseModel):
    """The source of a dataset version, and the runs and models that use it."""

    dataset: str = Field(description="Name of the dataset.")
    version: int = Field(description="Number of the version.")
    sha256: SHA256 | None = Field(description="SHA-256 of the stored samples, hexadecimal; null until they are ready.")
    source: StoredSource = Field(description="Where the samples come from.")
    source_sha256: SHA256 | None = Field(description="Of the uploaded file, while it is kept.")
    users: list[DatasetUser] = Field(description="Newest first, at most 1000 of each kind.")
