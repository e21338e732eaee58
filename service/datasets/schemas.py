"""Request and response bodies of uploads and datasets."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.datasets.layout import Declaration
from service.shared.errors import Fault
from service.shared.names import Name, Reference
from service.shared.samples import Schema

DatasetState = Literal["validating", "ready", "rejected", "failed", "cancelled"]


class UploadedArray(BaseModel):
    """An array in an uploaded file, as its header announces it."""

    name: str
    shape: list[int]
    dtype: str


class Upload(BaseModel):
    """A raw file as it came in."""

    id: str
    format: Literal["npz"]
    size_bytes: int
    sha256: str
    arrays: list[UploadedArray]
    created_at: datetime


class UploadSource(BaseModel):
    """Where a dataset's samples come from."""

    model_config = ConfigDict(extra="forbid")

    upload: Reference = Field(description="Id of an upload of this project.", examples=["upl_01K…"])


class DatasetRequest(BaseModel):
    """Make a dataset version of an upload. The same name again makes the next version."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    source: UploadSource
    declaration: Declaration = Field(default=Declaration(), alias="schema")


class DatasetVersion(BaseModel):
    """Immutable samples, with what they are and what they hold."""

    model_config = ConfigDict(serialize_by_alias=True)

    dataset: str
    version: int
    state: DatasetState
    rows: int | None
    schema_: Schema | None = Field(serialization_alias="schema")
    statistics: dict[str, Any] | None
    sha256: str | None
    size_bytes: int | None
    source: dict[str, Any]
    errors: list[Fault] = Field(description="Why it was rejected: at most the first 100 faults.")
    detail: str | None = Field(description="Why it was rejected or failed, in a sentence.")
    created_at: datetime


class Dataset(BaseModel):
    """A name and its newest version."""

    name: str
    latest_version: int
    created_at: datetime


class DatasetPage(BaseModel):
    """A part of the list of datasets, newest first."""

    datasets: list[Dataset]
    next_page_token: str | None
