"""Request and response bodies of uploads and datasets."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from service.datasets.declaration import Declaration
from service.datasets.formats.names import FormatName, KeptFormatName
from service.datasets.layout import DataWarning
from service.shared.errors import Fault
from service.shared.resource_names import Name, Reference
from service.shared.samples import Schema

DatasetState = Literal["validating", "ready", "rejected", "failed", "cancelled"]

MAX_GENERATED_STEPS = 5_000_000
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SHA256 = Annotated[str, Field(description="Hexadecimal.", examples=["9f86d081884c7d65…"])]


class UploadedArray(BaseModel):
    """An array of an uploaded file, as its header announces it."""

    name: str
    shape: list[int]
    dtype: str


class Upload(BaseModel):
    """An uploaded file."""

    id: str
    format: KeptFormatName = Field(description="Recognised by the first bytes of the file.")
    size_bytes: int
    sha256: SHA256
    arrays: list[UploadedArray] = Field(description="Announced by the headers of an .npz file.")
    created_at: datetime


class UploadPage(BaseModel):
    """A page of the list of uploads, newest first."""

    uploads: list[Upload]
    next_page_token: str | None


class UploadSource(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(extra="forbid")

    upload: Reference = Field(
        description="Id of an upload of this project.", examples=["upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H"]
    )


class UriSource(BaseModel):
    """A file at a location that the installation allows to read: `s3://…`, `file://…`."""

    model_config = ConfigDict(extra="forbid")

    uri: Annotated[str, Field(min_length=1, max_length=2000, examples=["s3://measurements/2026/patients.parquet"])]
    format: FormatName | None = Field(default=None, description="By default the suffix of the file name.")


class _Sequences(BaseModel):
    """Generated sequences. All are in memory at once."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(default=1000, ge=2, le=MAX_GENERATED_STEPS)
    steps: int = Field(default=50, ge=1, le=MAX_GENERATED_STEPS)

    @model_validator(mode="after")
    def _fits_in_memory(self) -> Self:
        if self.rows * self.steps > MAX_GENERATED_STEPS:
            raise ValueError(f"rows times steps is {self.rows * self.steps}, expected at most {MAX_GENERATED_STEPS}")
        return self


class Spirals(_Sequences):
    """Noisy spirals and their linear images: sequences m1 and m2, two numbers per step."""

    name: Literal["spirals"]
    seed: Seed = 0


class QuadraticSinusoidal(BaseModel):
    """A noisy parabola and a curve derived from it: samples m1 and m2, two numbers each."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["quadratic_sinusoidal"]
    rows: int = Field(default=5000, ge=2, le=MAX_GENERATED_STEPS)
    seed: Seed = 0


class MdmmSpirals(_Sequences):
    """The spirals of the multimodal deep Markov model: sequences x and y, one number per step, 60 % for training."""

    name: Literal["mdmm_spirals"]
    steps: int = Field(default=100, ge=1, le=MAX_GENERATED_STEPS)
    seed: Seed = 1


class GeneratorSource(BaseModel):
    """Synthetic data whose modalities have a known relation."""

    model_config = ConfigDict(extra="forbid")

    generator: Annotated[Spirals | QuadraticSinusoidal | MdmmSpirals, Field(discriminator="name")]


def _kind_of_source(source: Any) -> str:
    """The kind of source, so that faults refer to that kind only."""
    if isinstance(source, BaseModel):
        return type(source).__name__
    named = source if isinstance(source, dict) else {}
    kinds = {"uri": "UriSource", "generator": "GeneratorSource"}
    return next((kind for key, kind in kinds.items() if key in named), "UploadSource")


Source = Annotated[
    Annotated[UploadSource, Tag("UploadSource")]
    | Annotated[UriSource, Tag("UriSource")]
    | Annotated[GeneratorSource, Tag("GeneratorSource")],
    Discriminator(_kind_of_source),
]


class DatasetRequest(BaseModel):
    """Make a dataset version. A request with the name of a dataset makes its next version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "digits", "source": {"upload": "upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H"}},
                {"name": "s", "source": {"generator": {"name": "spirals"}}},
            ]
        },
    )

    name: Name
    source: Source
    declaration: Declaration = Field(default=Declaration(), alias="schema")


class DatasetVersion(BaseModel):
    """Immutable samples, with their schema and statistics."""

    model_config = ConfigDict(serialize_by_alias=True)

    dataset: str
    version: int
    state: DatasetState
    rows: int | None
    schema_: Schema | None = Field(serialization_alias="schema")
    statistics: dict[str, Any] | None
    warnings: list[DataWarning] = Field(description="What was inferred from the data, and what seems doubtful.")
    sha256: SHA256 | None
    size_bytes: int | None
    source: dict[str, Any]
    declared: dict[str, Any] = Field(description="The declaration of the request, without defaults.")
    errors: list[Fault] = Field(description="Why it was rejected: the first 100 faults at most.")
    detail: str | None = Field(description="Why it was rejected or failed, in one sentence.")
    waiting_reason: str | None = Field(description="Why it is not converted yet: `storage_full`, or null.")
    progress: float = Field(description="The fraction of the conversion that is done, from 0 to 1.")
    created_at: datetime


class DatasetVersionPage(BaseModel):
    """A page of the versions of a dataset, newest first."""

    versions: list[DatasetVersion]
    next_page_token: str | None


class Dataset(BaseModel):
    """A name and its newest version."""

    name: str
    latest_version: int
    created_at: datetime


class DatasetPage(BaseModel):
    """A page of the list of datasets, newest first."""

    datasets: list[Dataset]
    next_page_token: str | None


class PreviewRow(BaseModel):
    """One row: the value of every modality, null if absent; for sequences a list with one value per step."""

    row: int
    id: str | None
    label: str | None
    split: str | None
    values: dict[str, Any]


class Preview(BaseModel):
    """Some rows of a dataset version."""

    rows: list[PreviewRow]
    total_rows: int
