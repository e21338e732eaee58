"""Projects and API keys in SQL. A key is shown once; only the hash of its secret is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.orm import Session

from service.access import quotas
from service.access.quotas import NO_QUOTAS, Quotas
from service.access.scopes import SCOPES, Scope
from service.access.tables import ApiKey, Project
from service.shared.database import now
from service.shared.errors import Conflict, Forbidden, NotFound, Unauthenticated
from service.shared.table_base import new_id

# The last use of a key is written at most this often.
LAST_USE_SECONDS = 60.0

_PREFIX = re.compile("[0-9a-f]{12}")
_VALID = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()))
_KEY = (
    select(ApiKey, Project)
    .join(Project, Project.id == ApiKey.project_id)
    .where(ApiKey.prefix == bindparam("prefix"), *_VALID)
)
_VALID_KEYS = select(ApiKey.id, ApiKey.scopes).where(ApiKey.id.in_(bindparam("ids", expanding=True)), *_VALID)


@dataclass(frozen=True)
class Principal:
    """Who calls: the project whose rows are in sight, the key that proved it, what it may do, and how much."""

    project_id: str
    key_id: str
    scopes: frozenset[str]
    quotas: Quotas = NO_QUOTAS
    operates: bool = False
    """Whether its project may make others."""


def create_project(session: Session, name: str, own: Quotas = NO_QUOTAS, operates: bool = False) -> Project:
    """Add a tenant. Raises Conflict when the name is taken."""
    if find_project(session, name):
        raise Conflict("project_exists", f"there is a project {name!r} already")
    project = Project(id=new_id("prj"), name=name, operates=operates)
    for field, most in own._asdict().items():
        setattr(project, f"most_{field}", most)
    session.add(project)
    session.flush()
    return project


def find_project(session: Session, name: str) -> Project | None:
    """The tenant of this name."""
    return session.scalar(select(Project).where(Project.name == name))


def list_projects(session: Session, caller: Principal, after: str | None, size: int) -> Sequence[Project]:
    """The projects in a caller's sight, newest first: its own, or all for an operator."""
    query = select(Project).order_by(Project.id.desc()).limit(size)
    if not caller.operates:
        query = query.where(Project.id == caller.project_id)
    if after is not None:
        query = query.where(Project.id < after)
    return session.scalars(query).all()


def lock_project(session: Session, project_id: str) -> None:
    """Make other transactions that lock this project wait until this one ends. Rows may still refer to it."""
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


def note_served(session: Session, project_id: str) -> None:
    """Record that a worker took a job of a project, and lock the project until the transaction ends."""
    session.execute(update(Project).where(Project.id == project_id).values(served_at=now()))


def create_key(
    session: Session,
    project_id: str,
    name: str,
    scopes: Sequence[Scope] = SCOPES,
    expires_in_seconds: float | None = None,
) -> tuple[ApiKey, str]:
    """Add a key. Returns its row and the token, `sns_PREFIX_SECRET`, which nobody can read again."""
    prefix = secrets.token_hex(6)
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        prefix=prefix,
        secret_sha256=_digest(secret),
        scopes=sorted(set(scopes)),
        expires_at=None if expires_in_seconds is None else now(expires_in_seconds),
    )
    session.add(key)
    session.flush()
    return key, f"sns_{prefix}_{secret}"


def check_grant(session: Session, caller: Principal, scopes: Sequence[Scope], expires_in_seconds: float | None) -> None:
    """Raise Forbidden when a key would make one that may do more than itself, or for longer."""
    if beyond := sorted(set(scopes) - caller.scopes):
        own = ", ".join(sorted(caller.scopes))
        detail = f"the new key has the scopes {', '.join(beyond)}, expected only scopes of the key that makes it: {own}"
        raise Forbidden(" ".join(beyond), detail)
    ends = select(ApiKey.expires_at).where(ApiKey.id == caller.key_id, ApiKey.expires_at.is_not(None))
    if expires_in_seconds is not None:
        ends = ends.where(ApiKey.expires_at < now(expires_in_seconds))
    if (ends_at := session.scalar(ends)) is not None:
        asked = "never expires" if expires_in_seconds is None else f"expires in {expires_in_seconds:g} s"
        detail = f"the new key {asked}, expected no later than the key that makes it: {ends_at.isoformat()}"
        raise Forbidden("admin", detail, code="key_outlives_its_maker")


def list_keys(session: Session, project_id: str, after: str | None, size: int) -> Sequence[ApiKey]:
    """A project's keys, newest first, revoked ones too."""
    query = select(ApiKey).where(ApiKey.project_id == project_id).order_by(ApiKey.id.desc()).limit(size)
    if after is not None:
        query = query.where(ApiKey.id < after)
    return session.scalars(query).all()


def get_key(session: Session, project_id: str, key_id: str) -> ApiKey:
    """One key. Raises NotFound."""
    key = session.scalar(select(ApiKey).where(ApiKey.project_id == project_id, ApiKey.id == key_id))
    if key is None:
        raise NotFound("api key", key_id)
    return key


def revoke_key(session: Session, project_id: str, key_id: str) -> None:
    """End a key for good; ending it again changes nothing. Raises NotFound."""
    get_key(session, project_id, key_id)
    ended = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
    session.execute(ended)


def keys_with(session: Session, scope: Scope, key_ids: Collection[str]) -> set[str]:
    """Those of some keys that are valid and have a scope."""
    found = session.execute(_VALID_KEYS, {"ids": sorted(key_ids)})
    return {key_id for key_id, scopes in found if scope in scopes}


def note_use(session: Session, key_id: str) -> None:
    """Write that a key is in use, unless that was written within the last minute."""
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now(-LAST_USE_SECONDS))
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now()))


def authenticate(session: Session, token: str) -> Principal:
    """The caller a token stands for. Raises Unauthenticated without saying which part was wrong."""
    kind, _, rest = token.partition("_")
    prefix, _, secret = rest.partition("_")
    row = None
    if _PREFIX.fullmatch(prefix):  # others, such as those with a zero character, are none that a database keeps
        row = session.execute(_KEY, {"prefix": prefix}).one_or_none()
    # 256 random bits need no slow hash. Compared even without a row, so that time does not tell a known prefix.
    expected = row[0].secret_sha256 if row else _digest("")
    if not hmac.compare_digest(expected, _digest(secret)) or row is None or kind != "sns":
        raise Unauthenticated("invalid_api_key", "the API key is not known, or no longer valid")
    key, project = row
    return Principal(key.project_id, key.id, frozenset(key.scopes), quotas.of_project(project), project.operates)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
