"""Projects and API keys in SQL. A key is shown once; only the hash of its secret is kept."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.shared.database import now
from service.shared.errors import Conflict, Unauthenticated
from service.shared.tables import ApiKey, Project, new_id

SCOPES = ("read", "write", "infer", "admin")


@dataclass(frozen=True)
class Principal:
    """Who calls: the project whose rows are in sight, and the key that proved it."""

    project_id: str
    key_id: str
    scopes: frozenset[str]


def create_project(session: Session, name: str) -> Project:
    """Add a tenant. Raises Conflict when the name is taken."""
    if find_project(session, name):
        raise Conflict("project_exists", f"there is a project {name!r} already")
    project = Project(id=new_id("prj"), name=name)
    session.add(project)
    session.flush()
    return project


def find_project(session: Session, name: str) -> Project | None:
    """The tenant of this name."""
    return session.scalar(select(Project).where(Project.name == name))


def create_key(session: Session, project_id: str, name: str) -> tuple[ApiKey, str]:
    """Add a key. Returns its row and the token, `sns_PREFIX_SECRET`, which nobody can read again."""
    prefix = secrets.token_hex(6)
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        prefix=prefix,
        secret_sha256=_digest(secret),
        scopes=list(SCOPES),
    )
    session.add(key)
    session.flush()
    return key, f"sns_{prefix}_{secret}"


def authenticate(session: Session, token: str) -> Principal:
    """The caller a token stands for. Raises Unauthenticated without saying which part was wrong."""
    kind, _, rest = token.partition("_")
    prefix, _, secret = rest.partition("_")
    key = session.scalar(
        select(ApiKey).where(
            ApiKey.prefix == prefix,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()),
        )
    )
    # 256 random bits need no slow hash. Compared even without a row, so that time does not tell a known prefix.
    expected = key.secret_sha256 if key else _digest("")
    if not hmac.compare_digest(expected, _digest(secret)) or key is None or kind != "sns":
        raise Unauthenticated("invalid_api_key", "the API key is not known, or no longer valid")
    return Principal(key.project_id, key.id, frozenset(key.scopes))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
