"""Request and response bodies of API keys, projects and audit events."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.access.scopes import Scope
from service.administration import examples
from service.shared.resource_names import Name, Reference

Scopes = Annotated[list[Scope], Field(min_length=1, max_length=4, description="Scopes of the key.")]
DEFAULT_SCOPES: list[Scope] = ["read", "write", "infer"]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class ApiKeyRequest(BaseModel):
    """An API key to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "dashboard", "scopes": ["read"]}]},
    )

    name: Reference = Field(description="Purpose of the key, 1 to 200 characters.", examples=["training pipeline"])
    scopes: Scopes = DEFAULT_SCOPES
    expires_in_seconds: float | None = Field(
        default=None,
        gt=0,
        le=100 * 365 * 86_400,
        description="Time until the key expires, in seconds, at most 100 years; null: never.",
    )


class ApiKey(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [examples.API_KEY]})

    id: str = Field(description="Id of the key.")
    name: str = Field(description="Purpose of the key.")
    prefix: str = Field(description="Beginning of the key, after `sns_`.")
    scopes: list[Scope] = Field(description="What the key may do.")
    created_at: datetime = Field(description="When it was made.")
    expires_at: datetime | None = Field(description="When it expires; null: never.")
    last_used_at: datetime | None = Field(description="When it was last used, accurate to one minute; null: never.")
    revoked_at: datetime | None = Field(description="When it was revoked; null if it was not.")


class NewApiKey(ApiKey):
    """A created API key, with its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NEW_API_KEY]})

    token: str | None = Field(description="The key. It is only shown in this response; null in a repeated response.")


class ApiKeyPage(BaseModel):
    """A page of API keys, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"api_keys": [examples.API_KEY], "next_page_token": None}]}
    )

    api_keys: list[ApiKey] = Field(description="The keys of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class ProjectQuotas(BaseModel):
    """Quotas of a project; null uses the installation's value."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    stored_bytes: Count | None = Field(default=None, description="Maximum size of its files, in bytes.")
    queued_runs: Count | None = Field(default=None, description="Maximum number of runs that wait.")
    running_runs: Count | None = Field(
        default=None, description="Maximum number of runs that train at the same time; others wait."
    )
    request_rows: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = Field(
        default=None, description="Maximum number of rows of an inference request."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None, description="Maximum number of requests per minute."
    )


class ProjectRequest(BaseModel):
    """A project to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "clinic", "quotas": {"queued_runs": 100}}]},
    )

    name: Name = Field(description="Name of the project.")
    quotas: ProjectQuotas = Field(
        default=ProjectQuotas(), description="Its quotas; those not given have the values of the installation."
    )


class ProjectChanges(BaseModel):
    """Changes of a project. Omitted fields stay as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "clinic", "quotas": {"queued_runs": 50, "stored_bytes": None}}]},
    )

    name: Name | None = Field(default=None, description="The new name; null leaves it.")
    quotas: ProjectQuotas | None = Field(
        default=None,
        description="Quotas to set, by keys of an operator project. A quota that is null returns to the "
        "installation's value, and so do all of them if `quotas` is null.",
    )

    def limits(self) -> dict[str, int | None]:
        """The quotas to set, by their names; None returns to the installation's value."""
        if "quotas" not in self.model_fields_set:
            return {}
        return self.quotas.model_dump(exclude_unset=True) if self.quotas else ProjectQuotas().model_dump()


class Project(BaseModel):
    """A tenant."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PROJECT]})

    id: str = Field(description="Id of the project.")
    name: str = Field(description="Name of the project.")
    operates: bool = Field(description="Whether its admin keys may create, change and delete other projects.")
    quotas: ProjectQuotas = Field(description="Its own quotas.")
    stored_bytes: int = Field(description="Current size of its files, in bytes.")
    created_at: datetime = Field(description="When it was made.")
    deleted_at: datetime | None = Field(description="When it was deleted; null for a project in use.")


class NewProject(Project):
    """A created project, with its first API key."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NEW_PROJECT]})

    token: str | None = Field(
        description="Key with all scopes. It is only shown in this response; null in a repeated response."
    )


class ProjectPage(BaseModel):
    """A page of projects, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"projects": [examples.PROJECT], "next_page_token": None}]}
    )

    projects: list[Project] = Field(description="The projects of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class AuditEvent(BaseModel):
    """One change of the project's data."""

    model_config = ConfigDict(from_attributes=True)

    id: int = Field(description="Number of the event.")
    action: str = Field(description="Operation id of the API, or the command.")
    resource: str = Field(description="Path of the request.")
    made: list[str] = Field(description="Ids of the created resources.")
    key_id: str | None = Field(description="Null for a command line.")
    request_id: str | None = Field(description="Id of the request; null for a command line.")
    client: str | None = Field(description="Address of the client.")
    created_at: datetime = Field(description="When it happened.")


class AuditEventPage(BaseModel):
    """A page of audit events, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"audit_events": [examples.AUDIT_EVENT], "next_page_token": None}]}
    )

    audit_events: list[AuditEvent] = Field(description="The events of this page.")
    next_page_token: str | None = Field(description="`page_token` of the next page; null on the last one.")


class OwnProject(BaseModel):
    """The project of the caller."""

    id: str = Field(description="Id of the project.")
    name: str = Field(description="Name of the project.")
    operates: bool = Field(description="Whether its admin keys may create, change and delete other projects.")


class EffectiveQuotas(BaseModel):
    """The quotas that apply to a project: its own, or else the installation's. Null is no limit."""

    stored_bytes: int | None = Field(description="Maximum size of its files, in bytes.")
    queued_runs: int | None = Field(description="Maximum number of runs that wait.")
    running_runs: int | None = Field(description="Maximum number of runs that train at the same time.")
    request_rows: int | None = Field(description="Maximum number of rows of an inference request.")
    requests_per_minute: int | None = Field(description="Maximum number of requests per minute.")


class QuotaUse(BaseModel):
    """How much of its quotas a project uses now."""

    stored_bytes: int = Field(description="Current size of its files, in bytes.")
    queued_runs: int = Field(description="Number of runs that wait.")
    running_runs: int = Field(description="Number of runs that train.")


class Identity(BaseModel):
    """Whom a key belongs to, and what it may do."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.IDENTITY]})

    api_key: ApiKey = Field(description="The key of the request.")
    project: OwnProject = Field(description="The project of the key.")
    quotas: EffectiveQuotas = Field(description="The quotas that apply to the project.")
    use: QuotaUse = Field(description="How much of its quotas the project uses.")
