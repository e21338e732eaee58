"""Projects and API keys in SQL. A key is shown once; only the hash of its secret is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.access import quotas
from service.access.quotas import NO_QUOTAS, Quotas
from service.access.scopes import SCOPES, Scope
from service.access.tables import ApiKey, Project
from service.shared import events
from service.shared.database import now
from service.shared.errors import Conflict, Forbidden, NotFound, Unauthenticated
from service.shared.events import Resource
from service.shared.period import Period
from service.shared.table_base import new_id

# The last use of a key is written at most this often.
LAST_USE_SECONDS = 60.0

_PREFIX = re.compile("[0-9a-f]{12}")
_VALID = (
    Project.deleted_at.is_(None),
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now()),
)
_WITH_PROJECT = Project.id == ApiKey.project_id
_KEY = select(ApiKey, Project).join(Project, _WITH_PROJECT).where(ApiKey.prefix == bindparam("prefix"), *_VALID)
_VALID_KEYS = (
    select(ApiKey.id, ApiKey.scopes)
    .join(Project, _WITH_PROJECT)
    .where(ApiKey.id.in_(bindparam("ids", expanding=True)), *_VALID)
)


@dataclass(frozen=True)
class Principal:
    """The caller of a request: its project, its key, the scopes of the key and the quotas of the project."""

    project_id: str
    key_id: str
    scopes: frozenset[str]
    quotas: Quotas = NO_QUOTAS
    operates: bool = False
    """Whether the project may create, change and delete projects."""


def require_operator(caller: Principal, what: str) -> None:
    """Raise Forbidden if the caller's project does not operate. what: the call, such as "deletes a project"."""
    if not caller.operates:
        detail = f"the project of the key does not operate, expected an operator project, which alone {what}"
        raise Forbidden("admin", detail, code="operator_required")


def create_project(session: Session, name: str, own: Quotas = NO_QUOTAS, operates: bool = False) -> Project:
    """Add a project. Raises Conflict when the name is taken."""
    project = Project(id=new_id("prj"), name=name, operates=operates)
    for field, limit in own._asdict().items():
        setattr(project, f"max_{field}", limit)
    with _unique_name(session, name):
        session.add(project)
    events.record(session, project.id, "project.created", Resource("project", project.id))
    return project


def find_project(session: Session, name: str) -> Project | None:
    """The project of this name, which may be deleted, or None."""
    return session.scalar(select(Project).where(Project.name == name))


def get_project(session: Session, caller: Principal, project_id: str, lock: bool = False) -> Project:
    """A project that a caller may see, also a deleted one: its own, or any if its project operates.

    lock: as `lock_project`. Raises NotFound, also for a purged project.
    """
    query = select(Project).where(Project.id == project_id, Project.purged_at.is_(None))
    project = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if project is None or not (caller.operates or caller.project_id == project_id):
        raise NotFound("project", project_id)
    return project


def change_project(session: Session, project: Project, name: str | None, quotas: Mapping[str, int | None]) -> None:
    """Set a project's name, and some of its quotas: None returns to the default. Raises Conflict for a taken name."""
    for field, limit in quotas.items():
        setattr(project, f"max_{field}", limit)
    session.flush()
    if name is not None and name != project.name:
        with _unique_name(session, name):
            project.name = name


def list_projects(
    session: Session, caller: Principal, deleted: bool, period: Period, after: str | None, size: int
) -> Sequence[Project]:
    """The projects that a caller may see, newest first: its own, or all of them if its project operates.

    deleted: the deleted ones instead of the others.
    """
    query = select(Project).where(Project.purged_at.is_(None), *period.of_ids(Project.created_at, Project.id, "prj"))
    query = query.where(Project.deleted_at.is_not(None) if deleted else Project.deleted_at.is_(None))
    query = query.order_by(Project.id.desc()).limit(size)
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
    """Add a key. Returns its row and the token, `sns_PREFIX_SECRET`, which is not stored."""
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
    events.record(session, project_id, "api_key.created", Resource("api_key", key.id))
    return key, f"sns_{prefix}_{secret}"


def check_grant(session: Session, caller: Principal, scopes: Sequence[Scope], expires_in_seconds: float | None) -> None:
    """Raise Forbidden when a new key would have a scope that its creator lacks, or would expire later."""
    if beyond := sorted(set(scopes) - caller.scopes):
        own = ", ".join(sorted(caller.scopes))
        detail = f"the new key has the scopes {', '.join(beyond)}, expected only scopes of the key that makes it: {own}"
        raise Forbidden(" ".join(beyond), detail)
    ends = select(ApiKey.expires_at).where(ApiKey.id == caller.key_id, ApiKey.expires_at.is_not(None))
    if expires_in_seconds is not None:
        ends = ends.where(ApiKey.expires_at < now(expires_in_seconds))
    if (ends_at := session.scalar(ends)) is not None:
        expiry = "never expires" if expires_in_seconds is None else f"expires in {expires_in_seconds:g} s"
        detail = f"the new key {expiry}, expected no later than the key that makes it: {ends_at.isoformat()}"
        raise Forbidden("admin", detail, code="key_outlives_its_maker")


def list_keys(session: Session, project_id: str, period: Period, after: str | None, size: int) -> Sequence[ApiKey]:
    """All keys of a project, newest first, including revoked ones."""
    query = select(ApiKey).where(ApiKey.project_id == project_id, *period.of_ids(ApiKey.created_at, ApiKey.id, "key"))
    query = query.order_by(ApiKey.id.desc()).limit(size)
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
    """Revoke a key. Revoking it again changes nothing. Raises NotFound."""
    get_key(session, project_id, key_id)
    ended = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
    if session.scalar(ended.returning(ApiKey.id)) is not None:
        events.record(session, project_id, "api_key.revoked", Resource("api_key", key_id))


def keys_with(session: Session, scope: Scope, key_ids: Collection[str]) -> set[str]:
    """The ids of the given keys that are valid and have a scope."""
    rows = session.execute(_VALID_KEYS, {"ids": sorted(key_ids)})
    return {key_id for key_id, scopes in rows if scope in scopes}


def note_use(session: Session, key_id: str) -> None:
    """Record the use of a key, unless a use was recorded within the last minute."""
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now(-LAST_USE_SECONDS))
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now()))


def authenticate(session: Session, token: str) -> Principal:
    """The caller that a token belongs to. Raises Unauthenticated, which does not tell which part was wrong."""
    kind, _, rest = token.partition("_")
    prefix, _, secret = rest.partition("_")
    row = None
    if _PREFIX.fullmatch(prefix):  # PostgreSQL refuses texts with a zero character
        row = session.execute(_KEY, {"prefix": prefix}).one_or_none()
    # 256 random bits need no slow hash. It compares even without a row: the time must not tell whether a prefix exists.
    expected = row[0].secret_sha256 if row else _digest("")
    if not hmac.compare_digest(expected, _digest(secret)) or row is None or kind != "sns":
        raise Unauthenticated("invalid_api_key", "the API key is not known, or no longer valid")
    key, project = row
    return Principal(key.project_id, key.id, frozenset(key.scopes), quotas.of_project(project), project.operates)


@contextmanager
def _unique_name(session: Session, name: str) -> Iterator[None]:
    """Write a project's name. Raises Conflict if another project has it."""
    try:
        with session.begin_nested():
            yield
    except IntegrityError as error:
        taken = find_project(session, name)
        deleted = taken is not None and taken.deleted_at is not None
        state = "a deleted project: restore or purge it, or choose another name" if deleted else "a project already"
        raise Conflict("project_exists", f"the name {name!r} is taken by {state}") from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
