"""Request and response bodies of uploads and datasets."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from service.datasets import examples
from service.datasets.declaration import Declaration
from service.datasets.formats.names import FormatName, KeptFormatName
from service.datasets.layout import DataWarning
from service.shared.documented_as import DocumentedAs
from service.shared.errors import Fault
from service.shared.resource_names import Name, Reference
from service.shared.samples import Schema

DatasetState = Literal["validating", "ready", "rejected", "failed", "cancelled"]

MAX_GENERATED_STEPS = 5_000_000
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SHA256 = Annotated[str, Field(description="Hexadecimal.", examples=["9f86d081884c7d65…"])]


class UploadedArray(BaseModel):
    """An array of an uploaded file, as its header announces it."""

    name: str = Field(description="Name of the array.")
    shape: list[int] = Field(description="Its dimensions.")
    dtype: str = Field(description="Type of the elements, as NumPy names it.")


class Upload(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.UPLOAD]})

    id: str = Field(description="Id of the upload.")
    format: KeptFormatName = Field(description="Recognised by the first bytes of the file.")
    size_bytes: int = Field(description="Size of the file, in bytes.")
    sha256: SHA256 = Field(description="SHA-256 of the file.")
    arrays: list[UploadedArray] = Field(description="Announced by the headers of an .npz file.")
    created_at: datetime = Field(description="When it was uploaded.")


class UploadPage(BaseModel):
    """A page of the list of uploads, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"uploads": [examples.UPLOAD], "next_page_token": None}]})

    uploads: list[Upload] = Field(description="The uploads of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class UploadSource(BaseModel):
    """An uploaded file."""

    model_config = ConfigDict(extra="forbid")

    upload: Reference = Field(
        description="Id of an upload of this project.", examples=["upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H"]
    )


class UriSource(BaseModel):
    """A file at a location that the installation allows to read: `s3://…`, `file://…`."""

    model_config = ConfigDict(extra="forbid")

    uri: Annotated[str, Field(min_length=1, max_length=2000, examples=["s3://measurements/2026/patients.parquet"])] = (
        Field(description="Where the file is, 1 to 2000 characters.")
    )
    format: FormatName | None = Field(default=None, description="By default the suffix of the file name.")


class _Sequences(BaseModel):
    """Generated sequences. All are in memory at once."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(
        default=1000,
        ge=2,
        le=MAX_GENERATED_STEPS,
        description="Number of sequences. Rows times steps is at most 5,000,000.",
    )
    steps: int = Field(default=50, ge=1, le=MAX_GENERATED_STEPS, description="Number of steps of each sequence.")

    @model_validator(mode="after")
    def _fits_in_memory(self) -> Self:
        if self.rows * self.steps > MAX_GENERATED_STEPS:
            raise ValueError(f"rows times steps is {self.rows * self.steps}, expected at most {MAX_GENERATED_STEPS}")
        return self


class Spirals(_Sequences):
    """Noisy spirals and their linear images: sequences m1 and m2, two numbers per step."""

    name: Literal["spirals"] = Field(description="Selects this generator.")
    seed: Seed = Field(default=0, description="Seed of the noise.")


class QuadraticSinusoidal(BaseModel):
    """A noisy parabola and a curve derived from it: samples m1 and m2, two numbers each."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["quadratic_sinusoidal"] = Field(description="Selects this generator.")
    rows: int = Field(default=5000, ge=2, le=MAX_GENERATED_STEPS, description="Number of samples.")
    seed: Seed = Field(default=0, description="Seed of the noise.")


class MdmmSpirals(_Sequences):
    """The spirals of the multimodal deep Markov model: sequences x and y, one number per step, 60 % for training."""

    name: Literal["mdmm_spirals"] = Field(description="Selects this generator.")
    steps: int = Field(default=100, ge=1, le=MAX_GENERATED_STEPS, description="Number of steps of each sequence.")
    seed: Seed = Field(default=1, description="Seed of the noise.")


class GeneratorSource(BaseModel):
    """Synthetic data whose modalities have a known relation."""

    model_config = ConfigDict(extra="forbid")

    generator: Annotated[Spirals | QuadraticSinusoidal | MdmmSpirals, Field(discriminator="name")] = Field(
        description="Which data to generate."
    )


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


StoredSource = Annotated[dict[str, Any], DocumentedAs(Source)]


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

    name: Name = Field(description="Name of the dataset; a new one is created.")
    source: Source = Field(description="Where the samples come from.")
    declaration: Declaration = Field(
        default=Declaration(), alias="schema", description="What the data are, where it does not follow from the file."
    )


class ModalityStatistics(BaseModel):
    """Statistics of one modality. Values are counted per sample, of sequences per time step."""

    rows: int = Field(description="Number of rows that have the modality, sequences at any step.")
    present: int = Field(description="Number of values that are present.")
    absent: int = Field(description="Number of values that are absent.")
    nan: int = Field(description="Number of values that contain a NaN in the file. They are absent.")
    counts: list[int] | None = Field(
        default=None, description="Number of values of each category, in their order. Only for categories."
    )
    mean: float | None = Field(default=None, description="Mean over all elements. Only for numbers.")
    standard_deviation: float | None = Field(
        default=None, description="Standard deviation over all elements. Only for numbers."
    )
    minimum: float | None = Field(default=None, description="Smallest element. Only for numbers.")
    maximum: float | None = Field(default=None, description="Largest element. Only for numbers.")


class SplitCounts(BaseModel):
    """Number of rows by split."""

    training: int = Field(description="Number of rows for training.")
    validation: int = Field(description="Number of rows for validation.")
    test: int = Field(description="Number of rows for tests.")


class Lengths(BaseModel):
    """Lengths of the sequences, in time steps."""

    minimum: int = Field(description="Shortest length.")
    mean: float = Field(description="Mean length.")
    maximum: int = Field(description="Longest length.")


class Statistics(BaseModel):
    """Statistics of a dataset version."""

    rows: int = Field(description="Number of rows.")
    empty_rows: int = Field(description="Number of rows of the file without any value. They are left out.")
    modalities: dict[str, ModalityStatistics] = Field(description="Name of a modality -> its statistics.")
    together: dict[str, dict[str, int]] | None = Field(
        default=None,
        description="Names of two modalities -> number of rows that have both. Only for up to 100 modalities.",
    )
    splits: SplitCounts | None = Field(default=None, description="Rows by split. Only if the data have splits.")
    lengths: Lengths | None = Field(default=None, description="Lengths of the sequences. Only for sequences.")


class DatasetVersion(BaseModel):
    """Immutable samples, with their schema and statistics."""

    model_config = ConfigDict(serialize_by_alias=True, json_schema_extra={"examples": [examples.DATASET_VERSION]})

    dataset: str = Field(description="Name of the dataset.")
    version: int = Field(description="Number of the version, counted from 1.")
    state: DatasetState = Field(description="`validating` changes to one of the others, which are final.")
    rows: int | None = Field(description="Number of samples; null until it is ready.")
    schema_: Schema | None = Field(serialization_alias="schema", description="Its modalities; null until it is ready.")
    statistics: Annotated[dict[str, Any], DocumentedAs(Statistics)] | None = Field(
        description="Statistics of the values; null until it is ready."
    )
    warnings: list[DataWarning] = Field(description="What was inferred from the data, and what seems doubtful.")
    sha256: SHA256 | None = Field(description="SHA-256 of the stored samples; null until it is ready.")
    size_bytes: int | None = Field(description="Size of the stored samples, in bytes; null until it is ready.")
    source: StoredSource = Field(description="Where the samples come from.")
    declared: Annotated[dict[str, Any], DocumentedAs(Declaration)] = Field(
        description="The declaration of the request, without defaults."
    )
    errors: list[Fault] = Field(description="Why it was rejected: the first 100 faults at most.")
    detail: str | None = Field(description="Why it was rejected or failed, in one sentence.")
    waiting_reason: str | None = Field(description="Why it is not converted yet: `storage_full`, or null.")
    progress: float = Field(description="The fraction of the conversion that is done, from 0 to 1.")
    created_at: datetime = Field(description="When it was requested.")
    deleted_at: datetime | None = Field(
        description="When it was deleted; null if it is not. Its file counts as stored until it is purged."
    )


class DatasetVersionPage(BaseModel):
    """A page of the versions of a dataset, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"versions": [examples.DATASET_VERSION], "next_page_token": None}]}
    )

    versions: list[DatasetVersion] = Field(description="The versions of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class Dataset(BaseModel):
    """A name and its newest version."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DATASET]})

    name: str = Field(description="Name of the dataset.")
    latest_version: int | None = Field(description="Number of the newest version that is not deleted.")
    created_at: datetime = Field(description="When its first version was requested.")
    deleted_at: datetime | None = Field(
        description="When it was deleted; null if it is not. Its files count as stored until it is purged."
    )


class DatasetPage(BaseModel):
    """A page of the list of datasets, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"datasets": [examples.DATASET], "next_page_token": None}]}
    )

    datasets: list[Dataset] = Field(description="The datasets of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class PreviewRow(BaseModel):
    """One row: the value of every modality, null if absent; for sequences a list with one value per step."""

    row: int = Field(description="Number of the row, counted from 0.")
    id: str | None = Field(description="Id of the row, if the data have ids.")
    label: str | None = Field(description="Label of the row, if the data have labels.")
    split: str | None = Field(description="Split of the row, if the data have splits.")
    values: dict[str, Any] = Field(
        description="Name of a modality -> its value, null if it is absent. A sequence is a list with one "
        "value per step."
    )


class Preview(BaseModel):
    """Some rows of a dataset version."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PREVIEW]})

    rows: list[PreviewRow] = Field(description="The requested rows.")
    total_rows: int = Field(description="Number of rows of the version.")
