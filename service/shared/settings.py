"""Settings from environment variables. The variable SENSORIUM_<NAME> sets the field <name>.

SENSORIUM_SECRETS_DIR names a folder with files `sensorium_<name>`, for secrets of containers. A file sets its field if
the variable is unset.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from models.config.wording import came, expected
from service.shared import password_urls

PREFIX = "SENSORIUM_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
BUCKETS = "s3://"
SECRET_CHARACTERS = 32


class LogSettings(BaseSettings):
    """Settings of the log, which a process reads before all others."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = Field(default=False, description="Log JSON lines instead of text for people.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Precedence: arguments, variables, files in SENSORIUM_SECRETS_DIR."""
        folder = os.environ.get(SECRETS_DIR)
        files = (SecretsSettingsSource(settings_cls, folder),) if folder and Path(folder).is_dir() else ()
        return init_settings, env_settings, *files


def log_settings() -> LogSettings:
    """The log settings before all settings are checked: an invalid value is replaced by its default."""
    for defaults in ({}, {"log_level": "INFO"}, {"log_json": False}):
        try:
            return LogSettings(**defaults)
        except (ValidationError, SettingsError):
            continue
    return LogSettings(log_level="INFO", log_json=False)


class Settings(LogSettings):
    """All settings. The defaults run the embedded stack in `var/`."""

    home: Path = Field(default=Path("var"), description="Folder for all files that the service writes.")
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on; 0 selects a free port.")
    database: str | None = Field(default=None, description="SQLAlchemy URL. Unset: a SQLite file in `home`.")
    database_password: SecretStr | None = Field(default=None, description="Password for the URL in `database`.")
    broker: str = Field(default="filesystem://", description="Celery broker URL: filesystem:// or redis://…")
    broker_password: SecretStr | None = Field(default=None, description="Password for the URL in `broker`.")
    secret_key: SecretStr | None = Field(
        default=None,
        description="Key that signs tokens for clients. Unset and embedded: a generated file in `home`. During a key "
        "rotation: several keys with commas; the first signs, all are accepted.",
    )
    storage: str | None = Field(
        default=None, description="Storage of artifacts: s3://BUCKET/PREFIX or a folder. Unset: a folder in `home`."
    )
    s3_endpoint: str | None = Field(default=None, description="URL of an S3-compatible server. Unset: Amazon's.")
    s3_region: str | None = Field(default=None, description="Region of the bucket. Unset: AWS_REGION, or us-east-1.")
    s3_access_key_id: str | None = Field(default=None, description="Unset: AWS_* variables or the machine's role.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="Secret of s3_access_key_id.")
    cache_bytes: int = Field(default=20 * 1024**3, ge=0, description="Maximum size of the local cache of S3 objects.")
    reserve_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Bytes that uploads and jobs leave free on every disk. With SQLite, a file beside the database "
        "reserves as many bytes for deletions on a full disk.",
    )
    source_prefixes: Annotated[list[str], NoDecode] = Field(
        default=[], description="JSON list of URI prefixes of dataset sources: s3://BUCKET/PREFIX, file:///FOLDER."
    )
    drain_seconds: int = Field(default=30, ge=0, description="Time for requests in flight to complete after SIGTERM.")
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Proxies whose X-Forwarded-For is trusted: addresses or networks with commas, or *.",
    )

    open_telemetry: bool = Field(
        default=False, description="Trace requests with the process's OpenTelemetry providers."
    )

    upload_bytes: int = Field(default=2 * 1024**3, ge=1, description="Maximum size of an upload.")
    unpacked_bytes: int = Field(default=4 * 1024**3, ge=1, description="Maximum size of an unpacked upload.")
    conversion_memory_bytes: int = Field(
        default=2 * 1024**3, ge=64 * 1024**2, description="Maximum memory for the conversion of an upload."
    )
    request_bytes: int = Field(
        default=32 * 1024**2, ge=1, description="Maximum body of an inference request. Other JSON bodies: 1 MiB."
    )
    inference_rows: int = Field(default=4096, ge=1, description="Maximum rows per inference request.")
    inference_steps: int = Field(
        default=262_144, ge=1, description="Maximum time steps times draws per request; a static sample is one step."
    )
    inference_queue: int = Field(default=256, ge=1, description="Maximum requests that wait for the engine.")
    inference_backend: Literal["local", "celery"] = Field(
        default="local", description="Place of inference: the API process, or `infer` workers."
    )
    inference_memory_bytes: int = Field(default=2 * 1024**3, ge=1, description="Maximum memory of an engine's weights.")
    inference_batches: int = Field(
        default=2, ge=1, description="Maximum batches in flight from an API process; use 2 per `infer` worker."
    )
    inference_reply_seconds: float = Field(
        default=10,
        gt=0,
        description="Time for an `infer` worker to answer a batch; after it the request fails with 503.",
    )
    warm_timeout_seconds: float = Field(
        default=60, gt=0, description="Time for the engines to load a version before its alias moves without them."
    )
    inference_threads: int = Field(default=1, ge=1, description="CPU threads of an engine.")

    project_stored_bytes: int | None = Field(default=None, ge=0, description="Maximum stored bytes per project.")
    project_queued_runs: int | None = Field(default=None, ge=0, description="Maximum queued runs per project.")
    project_running_runs: int | None = Field(default=None, ge=0, description="Maximum running runs per project.")
    project_request_rows: int | None = Field(
        default=None, ge=1, description="Maximum rows per inference request of a project."
    )
    project_requests_per_minute: int | None = Field(default=None, ge=1, description="Maximum requests per project.")

    lease_seconds: float = Field(default=60, gt=0, description="A job is lost if its owner renews no lease this long.")
    heartbeat_seconds: float = Field(default=2, gt=0, description="Interval between two renewals of a lease.")
    reconcile_seconds: float = Field(default=5, gt=0, description="Interval of the search for lost jobs and messages.")
    deleted_days: float = Field(
        default=30,
        gt=0,
        le=36_500,
        description="Deleted datasets and models can be restored for this time; then they are purged.",
    )
    event_days: float = Field(default=30, gt=0, description="Events of projects are deleted when they are older.")
    stalled_seconds: float = Field(
        default=300, gt=0, description="An idle worker exits if a job has been eligible for it for this long."
    )
    retry_seconds: float = Field(default=5, ge=0, description="Back-off after the first failure; it doubles each time.")
    trainer_stop_seconds: float = Field(default=10, gt=0, description="Time between SIGTERM and SIGKILL of a trainer.")
    trainer_threads: int = Field(default=1, ge=1, description="CPU threads of a trainer.")
    checkpoint_seconds: float = Field(default=60, gt=0, description="Interval between two checkpoints of a training.")
    cpu_devices: int = Field(default=1, ge=1, le=64, description="Number of devices of a worker without GPUs.")
    log_bytes: int = Field(default=1024**2, ge=1024, description="Maximum stored log per attempt.")

    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of a worker's /metrics, /healthz and /readyz. Unset: no port."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address a worker's metrics port listens on.")

    git_revision: str | None = Field(default=None, description="Commit of the code, for lineages. Unset: from git.")

    cuda_visible_devices: str | None = Field(
        default=None, validation_alias="CUDA_VISIBLE_DEVICES", description="CUDA's list of the GPUs to use."
    )
    exit_with_stdin: bool = Field(default=False, description="The process exits when its standard input closes.")

    @field_validator("source_prefixes", mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        try:
            return orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError as error:
            raise ValueError('is not JSON, expected a list such as ["s3://bucket/prefix"]') from error

    @field_validator("secret_key")
    @classmethod
    def _check_each_key(cls, value: SecretStr | None) -> SecretStr | None:
        keys = split_keys(value.get_secret_value()) if value is not None else []
        if short := [f"key {n} has {len(key)}" for n, key in enumerate(keys, 1) if len(key) < SECRET_CHARACTERS]:
            raise ValueError(
                f"is not usable: {', '.join(short)} characters, expected at least {SECRET_CHARACTERS} in each key"
            )
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _find_all_at_once(cls, values: Any, validate: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        """Raises one error that lists every invalid value, and every contradiction between valid values."""
        faults: list[InitErrorDetails] = []
        try:
            settings = validate(values)
        except ValidationError as error:
            faults = [_fault(fault["type"], cls._describe(fault), fault["loc"]) for fault in error.errors()]
            wrong = {fault["loc"][0] for fault in error.errors()}
            settings = validate({name: value for name, value in values.items() if name not in wrong})
        faults += [_fault("contradiction", detail, (name,)) for name, detail in settings.contradictions()]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults, hide_input=True)
        return settings

    @classmethod
    def _describe(cls, fault: Mapping[str, Any]) -> str:
        """A fault of a value, as the rest of a sentence. Secrets, and URLs that may contain one, are not repeated."""
        if fault["type"] == "value_error":  # a validator of this class raised it
            return str(fault["ctx"]["error"])
        field = cls.model_fields.get(str(fault["loc"][0]))
        is_hidden = "://" in str(fault["input"]) or (field is not None and "SecretStr" in str(field.annotation))
        return f"{'is not usable' if is_hidden else came(fault)}, expected {expected(fault)}"

    def contradictions(self) -> list[tuple[str, str]]:
        """The settings that contradict others, each with the rest of a sentence about it."""
        faults = []
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            least = f"expected at least twice SENSORIUM_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g})"
            faults.append(("lease_seconds", f"is {self.lease_seconds:g}, {least}: a lease outlives one late heartbeat"))
        if self.inference_backend == "celery" and not self.broker.startswith("redis"):
            faults.append(
                ("inference_backend", "is 'celery', which needs a SENSORIUM_BROKER that begins with redis://")
            )
        if self.storage is not None and "://" in self.storage and not re.match(r"s3://[^/]+", self.storage):
            faults.append(("storage", f"is {self.storage!r}, expected s3://BUCKET/PREFIX or a folder"))
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            faults.append(
                ("s3_access_key_id", "needs SENSORIUM_S3_SECRET_ACCESS_KEY, and the reverse: set both or none")
            )
        for name, url, password in (
            ("database", self.database, self.database_password),
            ("broker", self.broker, self.broker_password),
        ):
            faults += password_urls.contradictions(name, url, password)
        return faults

    @property
    def database_url(self) -> str:
        """The URL of the database, with its password."""
        if self.database is None:
            return f"sqlite:///{self.home.absolute() / 'sensorium.db'}"
        return password_urls.with_password(self.database, self.database_password)

    @property
    def broker_url(self) -> str:
        """The URL of the broker, with its password."""
        return password_urls.with_password(self.broker, self.broker_password)

    @property
    def is_embedded(self) -> bool:
        """Whether the stack is embedded: SQLite and the filesystem broker, both in the home folder."""
        return self.database_url.startswith("sqlite") and self.broker.startswith("filesystem")

    @property
    def devices(self) -> list[str]:
        """The devices of a worker."""
        return self.cuda_visible_devices.split(",") if self.cuda_visible_devices else ["cpu"] * self.cpu_devices

    @property
    def artifacts(self) -> Path:
        """The folder of the content-addressed artifacts, or of the local cache of artifacts in S3."""
        if self.bucket_url is not None:
            return self.home / "cache"
        return Path(self.storage) if self.storage else self.home / "artifacts"

    @property
    def bucket_url(self) -> str | None:
        """The URL of the bucket with the artifacts; None if they are in a folder."""
        return self.storage if self.storage and self.storage.startswith(BUCKETS) else None

    @property
    def scratch(self) -> Path:
        """The folder of files that jobs have not stored yet; fastest on the same file system as `artifacts`."""
        return self.home / "scratch"

    @property
    def queue_folder(self) -> Path:
        """The folder of the filesystem:// broker's messages."""
        return self.home / "queue"


def split_keys(text: str) -> list[str]:
    """The keys in the value of `secret_key`; the first one signs."""
    return [key.strip() for key in text.split(",")]


def _fault(kind: str, detail: str, place: tuple[int | str, ...]) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{detail}", {"detail": detail}), loc=place, input=None)
