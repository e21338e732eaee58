"""Request and response bodies of API keys and projects."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.access.scopes import Scope
from service.shared.resource_names import Name, Reference

Scopes = Annotated[list[Scope], Field(min_length=1, max_length=4, description="What the key may do.")]
DEFAULT_SCOPES: list[Scope] = ["read", "write", "infer"]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class ApiKeyRequest(BaseModel):
    """Make a key of this project."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "dashboard", "scopes": ["read"]}]},
    )

    name: Reference = Field(description="What it is for.", examples=["training pipeline"])
    scopes: Scopes = DEFAULT_SCOPES
    expires_in_seconds: float | None = Field(default=None, gt=0, le=100 * 365 * 86_400, description="Never if null.")


class ApiKey(BaseModel):
    """A key as it is remembered: nobody can read its secret again."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    prefix: str = Field(description="The key begins with `sns_` and this.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class NewApiKey(ApiKey):
    """A key that was just made."""

    token: str | None = Field(description="The key itself. It is shown this once; null in a repeated answer.")


class ApiKeyPage(BaseModel):
    """A part of the list of keys, newest first."""

    api_keys: list[ApiKey]
    next_page_token: str | None


class ProjectQuotas(BaseModel):
    """Upper limits; null is the installation's own figure."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    stored_bytes: Count | None = None
    queued_runs: Count | None = None
    running_runs: Count | None = None
    request_rows: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None


class ProjectRequest(BaseModel):
    """Make a project with its first key."""

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
    stored_bytes: int = Field(description="What its files take now.")
    created_at: datetime


class NewProject(Project):
    """A project that was just made."""

    token: str | None = Field(description="Its first key, with all scopes. Shown this once; null in a repeated answer.")


class ProjectPage(BaseModel):
    """A part of the list of projects, newest first."""

    projects: list[Project]
    next_page_token: str | None


class AuditEvent(BaseModel):
    """Something that was done."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    action: str = Field(description="Operation id of the API, or the command.")
    resource: str = Field(description="Path of the request.")
    made: list[str] = Field(description="Ids of the rows that came to be.")
    key_id: str | None = Field(description="Null for the command line.")
    request_id: str | None
    client: str | None = Field(description="Address that the request came from.")
    created_at: datetime


class AuditEventPage(BaseModel):
    """A part of the audit log, newest first."""

    audit_events: list[AuditEvent]
    next_page_token: str | None
