"""Request and response bodies of API keys, projects and audit events."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.access.scopes import Scope
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

    name: Reference = Field(description="Purpose of the key.", examples=["training pipeline"])
    scopes: Scopes = DEFAULT_SCOPES
    expires_in_seconds: float | None = Field(
        default=None, gt=0, le=100 * 365 * 86_400, description="Null: the key never expires."
    )


class ApiKey(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    prefix: str = Field(description="Beginning of the key, after `sns_`.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Accurate to one minute.")
    revoked_at: datetime | None


class NewApiKey(ApiKey):
    """A created API key, with its secret."""

    token: str | None = Field(description="The key. It is only shown in this response; null in a repeated response.")


class ApiKeyPage(BaseModel):
    """A page of API keys, newest first."""

    api_keys: list[ApiKey]
    next_page_token: str | None


class ProjectQuotas(BaseModel):
    """Quotas of a project; null uses the installation's value."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    stored_bytes: Count | None = None
    queued_runs: Count | None = None
    running_runs: Count | None = None
    request_rows: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None


class ProjectRequest(BaseModel):
    """A project to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "clinic", "quotas": {"queued_runs": 100}}]},
    )

    name: Name
    quotas: ProjectQuotas = ProjectQuotas()


class Project(BaseModel):
    """A tenant."""

    id: str
    name: str
    quotas: ProjectQuotas
    stored_bytes: int = Field(description="Current size of its files.")
    created_at: datetime


class NewProject(Project):
    """A created project, with its first API key."""

    token: str | None = Field(
        description="Key with all scopes. It is only shown in this response; null in a repeated response."
    )


class ProjectPage(BaseModel):
    """A page of projects, newest first."""

    projects: list[Project]
    next_page_token: str | None


class AuditEvent(BaseModel):
    """One change of the project's data."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    action: str = Field(description="Operation id of the API, or the command.")
    resource: str = Field(description="Path of the request.")
    made: list[str] = Field(description="Ids of the created resources.")
    key_id: str | None = Field(description="Null for a command line.")
    request_id: str | None
    client: str | None = Field(description="Address of the client.")
    created_at: datetime


class AuditEventPage(BaseModel):
    """A page of audit events, newest first."""

    audit_events: list[AuditEvent]
    next_page_token: str | None
