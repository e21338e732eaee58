"""Response bodies of lineage."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.datasets.schemas import SHA256


class DatasetUser(BaseModel):
    """A run of a dataset version, or a model version that was trained on it."""

    kind: Literal["run", "model version"]
    name: str = Field(description="Id of the run, or MODEL/VERSION.")
    created_at: datetime


class DatasetLineage(BaseModel):
    """The source of a dataset version, and the runs and models that use it."""

    dataset: str
    version: int
    sha256: SHA256 | None
    source: dict[str, Any]
    source_sha256: SHA256 | None = Field(description="Of the uploaded file, while it is kept.")
    users: list[DatasetUser] = Field(description="Newest first, at most 1000 of each kind.")
