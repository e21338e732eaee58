"""The errors of the API. Operations raise them; one handler in `service.http.problems` renders them.

SensoriumError                500
├── Misconfigured                  invalid settings; a process does not start, so that it is never a response
├── BadInput                  422  one or more faults, each with the place, the value and the expectation
│   └── InvalidToken          400  a token that the service did not issue
├── BadRequest                400  the request violates HTTP/1.1
├── Unauthenticated           401
├── Forbidden                 403  the key lacks a scope
├── NotFound                  404
├── Conflict                  409  the state of the resource forbids the call
├── Gone                      410  what the request refers to was deleted by its age
├── PreconditionFailed        412  If-Match or If-None-Match does not hold
├── TooLarge                  413
├── UnsupportedMediaType      415
├── TooMany                   429  a rate limit, or a quota that becomes free with time; a retry may succeed
├── Damaged                   500  a stored file differs from its checksum
├── UnsupportedFeature        501  a feature of HTTP that the service does not implement
├── Unavailable               503  a retry may succeed
├── Exhausted                 507  the request needs more than the installation has; a retry fails again
│   ├── QuotaExceeded         507  the project stores as much as it may; a retry may succeed after deletions
│   └── StorageFull           507  a disk is full; a retry may succeed after deletions
└── TimedOut                  504  the caller's time limit has passed
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

MAX_STEP_CHARACTERS = 200


@dataclass(frozen=True)
class Fault:
    """One fault of the input.

    `pointer` is a JSON pointer (RFC 6901) into the body, `?name` for a query parameter, `name` for a path parameter.
    """

    pointer: Annotated[
        str,
        Field(
            description="The place: a JSON pointer into the body, `?name` for a query parameter, or the name of a path "
            "parameter or header."
        ),
    ]
    code: Annotated[str, Field(description="Kind of fault: stable, for programs.")]
    detail: Annotated[str, Field(description="What was found and what was expected, for people.")]


def pointer(*steps: str | int) -> str:
    """The JSON pointer of these steps, escaped as in RFC 6901. Long keys are truncated."""
    return "".join("/" + str(step)[:MAX_STEP_CHARACTERS].replace("~", "~0").replace("/", "~1") for step in steps)


class SensoriumError(Exception):
    """Base class. code: stable, for programs. detail: a sentence for people."""

    status: ClassVar[int] = 500
    headers: Mapping[str, str] = {}

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.faults: tuple[Fault, ...] = ()


class BadInput(SensoriumError):
    """The request is well-formed, but its content is invalid; `faults` lists every fault."""

    status = 422

    def __init__(self, faults: Sequence[Fault], code: str = "invalid_input") -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(code, f"{faults[0].detail}{more}")
        self.faults = tuple(faults)


class InvalidToken(BadInput):
    """A token that the service did not issue, or issued for another purpose."""

    status = 400


class Misconfigured(SensoriumError):
    """Settings with which no process can start. problems: one sentence per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in problems)
        detail = f"{len(problems)} settings are wrong:{lines}" if len(problems) > 1 else problems[0]
        super().__init__("misconfigured", detail)


class BadRequest(SensoriumError):
    """The head of the request violates HTTP/1.1. The connection closes, because the end of the request is unknown."""

    status = 400
    headers: Mapping[str, str] = {"Connection": "close"}


class Unauthenticated(SensoriumError):
    """The request has no API key, or an invalid one."""

    status = 401
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer, Basic realm="Sensorium"'}


class Forbidden(SensoriumError):
    """The key is valid, but lacks the scope of the call."""

    status = 403

    def __init__(self, scope: str, detail: str, code: str = "insufficient_scope") -> None:
        super().__init__(code, detail)
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}


class NotFound(SensoriumError):
    """The caller's project has no resource of that name. faults: one for each resource, if several were named."""

    status = 404

    def __init__(self, kind: str, name: str, faults: Sequence[Fault] = ()) -> None:
        missing = faults[0].detail if faults else f"there is no {kind} {name!r} in this project"
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{kind.replace(' ', '_')}_not_found", missing + more)
        self.faults = tuple(faults)


class Conflict(SensoriumError):
    """The state of the resource forbids the call."""

    status = 409


class Gone(SensoriumError):
    """What the request refers to existed, and was deleted by its age."""

    status = 410


class PreconditionFailed(SensoriumError):
    """The resource has changed since the caller read it."""

    status = 412


class TooLarge(SensoriumError):
    """The request has more bytes or rows than the service accepts."""

    status = 413


class UnsupportedMediaType(SensoriumError):
    """The call does not accept the content type."""

    status = 415


class TooMany(SensoriumError):
    """The project has exceeded a limit that becomes free with time: the same request may succeed later."""

    status = 429

    def __init__(self, code: str, detail: str, retry_seconds: float) -> None:
        super().__init__(code, detail)
        self.headers = {"Retry-After": str(math.ceil(retry_seconds))}


class Damaged(SensoriumError):
    """A stored file differs from its checksum. A retry fails again until the file is stored again."""

    status = 500


class UnsupportedFeature(SensoriumError):
    """The request uses a feature of HTTP that the service does not implement."""

    status = 501
    headers: Mapping[str, str] = {"Connection": "close"}


class Unavailable(SensoriumError):
    """A component of the service is temporarily unreachable."""

    status = 503
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Exhausted(SensoriumError):
    """The request needs more memory or space than there is."""

    status = 507


TO_FREE_SPACE = "delete uploads or runs, or purge datasets or models (DELETE with ?purge=true)"
"""What users can do when space is short. A deletion without `purge` keeps the files."""


class QuotaExceeded(Exhausted):
    """The project would store more than it may. Time alone changes nothing, so that there is no Retry-After."""

    def __init__(self, what: str) -> None:
        super().__init__("quota_exceeded", f"{what}: {TO_FREE_SPACE}, or ask for a larger quota")


class StorageFull(Exhausted):
    """A disk, bucket or server is full. Only deletions are accepted."""

    def __init__(self, place: str) -> None:
        advice = f"{TO_FREE_SPACE}, or ask the operator for more space"
        super().__init__("storage_full", f"no space is left for new data ({place}): {advice}")


class TimedOut(SensoriumError):
    """The time limit that the caller set has passed."""

    status = 504

    def __init__(self, detail: str) -> None:
        super().__init__("timed_out", detail)
