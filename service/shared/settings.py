"""Settings: the only reader of the environment. Every field is set by SENSORIUM_<NAME>.

SENSORIUM_SECRETS_DIR names a folder, where the files `sensorium_<name>` set what no variable sets: that is how secrets
reach containers.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

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

PREFIX = "SENSORIUM_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
BUCKETS = "s3://"
SECRET_CHARACTERS = 32


class LogSettings(BaseSettings):
    """How a process logs, which it has to know before anything else."""

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
        """Arguments, then variables, then the files of SENSORIUM_SECRETS_DIR."""
        folder = os.environ.get(SECRETS_DIR)
        files = (SecretsSettingsSource(settings_cls, folder),) if folder and Path(folder).is_dir() else ()
        return init_settings, env_settings, *files


def log_settings() -> LogSettings:
    """How to log while the settings are not checked yet: a value that is wrong is replaced by its default."""
    for given in ({}, {"log_level": "INFO"}, {"log_json": False}):
        try:
            return LogSettings(**given)
        except (ValidationError, SettingsError):
            continue
    return LogSettings(log_level="INFO", log_json=False)


class Settings(LogSettings):
    """All that can be set from outside. The defaults run the embedded stack in `var/`."""

    home: Path = Field(default=Path("var"), description="Folder of everything the service writes.")
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    database: str | None = Field(default=None, description="SQLAlchemy URL; a SQLite file in `home` when unset.")
    database_password: SecretStr | None = Field(default=None, description="Put into the URL of `database`.")
    broker: str = Field(default="filesystem://", description="Celery broker URL: filesystem:// or redis://…")
    broker_password: SecretStr | None = Field(default=None, description="Put into the URL of `broker`.")
    secret_key: SecretStr | None = Field(
        default=None,
        description="Signs what clients carry; a file in `home` when embedded and unset. While keys rotate: several "
        "with commas, of which the first signs and all are accepted.",
    )
    storage: str | None = Field(
        default=None, description="Where artifacts are kept: s3://BUCKET/PREFIX, or a folder; one in `home` when unset."
    )
    s3_endpoint: str | None = Field(default=None, description="URL of an S3-compatible server that is not Amazon's.")
    s3_region: str | None = Field(default=None, description="Region of the bucket. Unset: AWS_REGION, or us-east-1.")
    s3_access_key_id: str | None = Field(default=None, description="Unset: what AWS_* and the machine's role say.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="Belongs to s3_access_key_id.")
    cache_bytes: int = Field(default=20 * 1024**3, ge=0, description="Most bytes of local copies of what is in S3.")
    reserve_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Bytes that uploads and jobs leave free on every disk; with SQLite as many are held in a file "
        "beside it, for deletions on a full disk.",
    )
    source_prefixes: Annotated[list[str], NoDecode] = Field(
        default=[], description="What datasets may be read from, as JSON: s3://BUCKET/PREFIX and file:///FOLDER."
    )
    drain_seconds: int = Field(default=30, ge=0, description="What requests in flight have at SIGTERM to be answered.")
    trusted_proxies: str = Field(
        default="127.0.0.1", description="Whose X-Forwarded-For is believed: addresses or networks with commas, or *."
    )

    open_telemetry: bool = Field(default=False, description="Hand requests to the process's OpenTelemetry providers.")

    upload_bytes: int = Field(default=2 * 1024**3, ge=1, description="Largest upload.")
    unpacked_bytes: int = Field(default=4 * 1024**3, ge=1, description="Largest upload when unpacked.")
    conversion_memory_bytes: int = Field(
        default=2 * 1024**3, ge=64 * 1024**2, description="Most memory that one conversion of an upload may allocate."
    )
    request_bytes: int = Field(
        default=32 * 1024**2, ge=1, description="Largest body with rows for inference; other JSON: 1 MiB."
    )
    inference_rows: int = Field(default=4096, ge=1, description="Most rows in one inference request.")
    inference_steps: int = Field(
        default=262_144, ge=1, description="Most time steps (a static sample is one) times draws in one request."
    )
    inference_queue: int = Field(default=256, ge=1, description="Most requests that wait for the engine.")
    inference_backend: Literal["local", "celery"] = Field(
        default="local", description="Where inference is computed: in the API process, or by `infer` workers."
    )
    inference_memory_bytes: int = Field(default=2 * 1024**3, ge=1, description="Most memory for weights in an engine.")
    inference_batches: int = Field(
        default=2, ge=1, description="Most batches of an API process that `infer` workers have at once; 2 a worker."
    )
    inference_reply_seconds: float = Field(
        default=10, gt=0, description="A batch that no `infer` worker has answered by then is given up: 503."
    )
    warm_timeout_seconds: float = Field(
        default=60, gt=0, description="An alias moves after this long, even where an engine has not loaded the version."
    )
    inference_threads: int = Field(default=1, ge=1, description="Processor threads an engine computes with.")

    project_stored_bytes: int | None = Field(default=None, ge=0, description="Most bytes that a project may store.")
    project_queued_runs: int | None = Field(default=None, ge=0, description="Most runs of a project that may wait.")
    project_running_runs: int | None = Field(default=None, ge=0, description="Most runs of a project at work at once.")
    project_request_rows: int | None = Field(
        default=None, ge=1, description="Most rows in an inference request of a project."
    )
    project_requests_per_minute: int | None = Field(default=None, ge=1, description="Most requests of a project.")

    lease_seconds: float = Field(default=60, gt=0, description="A job whose owner is silent this long is lost.")
    heartbeat_seconds: float = Field(default=2, gt=0, description="How often an owner renews its lease.")
    reconcile_seconds: float = Field(default=5, gt=0, description="How often lost jobs and wake-ups are looked for.")
    deaf_seconds: float = Field(
        default=300, gt=0, description="A worker that idles while work has waited this long ends itself."
    )
    retry_seconds: float = Field(default=5, ge=0, description="Back-off after a first failure; then it doubles.")
    trainer_stop_seconds: float = Field(default=10, gt=0, description="From SIGTERM to SIGKILL of a trainer.")
    trainer_threads: int = Field(default=1, ge=1, description="Processor threads a trainer computes with.")
    checkpoint_seconds: float = Field(default=60, gt=0, description="How often a training's state is kept.")
    cpu_devices: int = Field(default=1, ge=1, le=64, description="Devices that a worker without cards counts as.")
    log_bytes: int = Field(default=1024**2, ge=1024, description="Most log kept of one attempt.")

    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of a worker's /metrics, /healthz and /readyz; none when unset."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of that port.")

    git_revision: str | None = Field(default=None, description="Commit of the code, for lineages. Unset: git is asked.")

    cuda_visible_devices: str | None = Field(
        default=None, validation_alias="CUDA_VISIBLE_DEVICES", description="CUDA's own list of the cards to use."
    )
    exit_with_stdin: bool = Field(default=False, description="The process ends when its standard input is closed.")

    @field_validator("source_prefixes", mode="before")
    @classmethod
    def _read_list(cls, given: Any) -> Any:
        try:
            return orjson.loads(given) if isinstance(given, str) else given
        except orjson.JSONDecodeError as error:
            raise ValueError(f'not JSON, expected a list such as ["s3://bucket/prefix"]: {error}') from error

    @field_validator("secret_key")
    @classmethod
    def _check_each_key(cls, given: SecretStr | None) -> SecretStr | None:
        keys = split_keys(given.get_secret_value()) if given is not None else []
        if short := [f"key {n} has {len(key)}" for n, key in enumerate(keys, 1) if len(key) < SECRET_CHARACTERS]:
            raise ValueError(f"{', '.join(short)} characters, expected at least {SECRET_CHARACTERS} in each key")
        return given

    @model_validator(mode="wrap")
    @classmethod
    def _find_all_at_once(cls, given: Any, validate: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        """Raises one error with every value that is wrong, and with what contradicts among those that are not."""
        faults: list[InitErrorDetails] = []
        try:
            settings = validate(given)
        except ValidationError as error:
            faults = [_fault(one["type"], one["msg"], one["loc"]) for one in error.errors()]
            wrong = {one["loc"][0] for one in error.errors()}
            settings = validate({name: value for name, value in given.items() if name not in wrong})
        faults += [_fault("contradiction", detail, (name,)) for name, detail in settings.contradictions()]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults, hide_input=True)
        return settings

    def contradictions(self) -> list[tuple[str, str]]:
        """The settings that do not go with others, each with why."""
        found = []
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            detail = f"{self.lease_seconds}, expected at least twice heartbeat_seconds ({self.heartbeat_seconds}): "
            found.append(("lease_seconds", f"{detail}a lease must outlive one late heartbeat"))
        if self.inference_backend == "celery" and not self.broker.startswith("redis"):
            found.append(("inference_backend", "celery takes a broker redis://…, and SENSORIUM_BROKER is another"))
        if self.storage is not None and "://" in self.storage and not re.match(r"s3://[^/]+", self.storage):
            found.append(("storage", f"{self.storage!r}, expected s3://BUCKET/PREFIX or a folder"))
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            found.append(("s3_access_key_id", "belongs together with s3_secret_access_key: set both or none"))
        for name, url, password in (
            ("database", self.database, self.database_password),
            ("broker", self.broker, self.broker_password),
        ):
            found += _url_contradictions(name, url, password)
        return found

    @property
    def database_url(self) -> str:
        """The database in use."""
        if self.database is None:
            return f"sqlite:///{self.home.absolute() / 'sensorium.db'}"
        return _with_password(self.database, self.database_password)

    @property
    def broker_url(self) -> str:
        """The broker in use."""
        return _with_password(self.broker, self.broker_password)

    @property
    def is_embedded(self) -> bool:
        """Whether all processes share this machine's home folder."""
        return self.database_url.startswith("sqlite") and self.broker.startswith("filesystem")

    @property
    def devices(self) -> list[str]:
        """The devices that a worker owns."""
        return self.cuda_visible_devices.split(",") if self.cuda_visible_devices else ["cpu"] * self.cpu_devices

    @property
    def artifacts(self) -> Path:
        """The folder of the content-addressed artifacts, or of the copies of those in S3."""
        if self.bucket_url is not None:
            return self.home / "cache"
        return Path(self.storage) if self.storage else self.home / "artifacts"

    @property
    def bucket_url(self) -> str | None:
        """Where artifacts are kept, when that is no folder."""
        return self.storage if self.storage and self.storage.startswith(BUCKETS) else None

    @property
    def scratch(self) -> Path:
        """The folder of what jobs write before it becomes an artifact; best on the file system of `artifacts`."""
        return self.home / "scratch"

    @property
    def queue_folder(self) -> Path:
        """Where the filesystem:// broker keeps its messages."""
        return self.home / "queue"


def split_keys(text: str) -> list[str]:
    """The keys in a value of `secret_key`; the first signs."""
    return [key.strip() for key in text.split(",")]


def _fault(kind: str, said: str, place: tuple[int | str, ...]) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{said}", {"said": said}), loc=place, input=None)


def _url_contradictions(name: str, url: str | None, password: SecretStr | None) -> list[tuple[str, str]]:
    """What is wrong with a URL, which is not repeated: a password may stand in it."""
    if url is None:
        return [(f"{name}_password", f"is set, and {name}, which it belongs to, is not")] if password else []
    try:
        parsed = urlsplit(url)
        whole = bool(parsed.scheme) and (parsed.port or True)
    except ValueError:
        whole = False
    if not whole:
        return [(name, "is no URL such as SCHEME://USER@HOST:PORT/NAME")]
    if password and (parsed.password or not parsed.hostname):
        why = "the URL has a password already" if parsed.password else "the URL names no server"
        return [(f"{name}_password", f"is set, and does not go with {name}: {why}")]
    return []


def _with_password(url: str, password: SecretStr | None) -> str:
    if password is None:
        return url
    parsed = urlsplit(url)
    user, _, server = parsed.netloc.rpartition("@")
    return parsed._replace(netloc=f"{user}:{quote(password.get_secret_value(), safe='')}@{server}").geturl()
