"""Every error a caller can meet. Operations raise them; one handler in `service.http.problems` renders them.

SensoriumError                500
├── Misconfigured                  settings with which nothing can start; never an answer
├── BadInput                  422  one or more faults, each with the place, what came and what was expected
│   └── NotOurs               400  a token that we did not give
├── BadRequest                400  not a request as HTTP/1.1 defines it
├── Unauthenticated           401
├── Forbidden                 403  the key may not do this
├── NotFound                  404
├── Conflict                  409  the resource's state forbids it
├── PreconditionFailed        412  it is not what If-Match or If-None-Match expects
├── TooLarge                  413
├── UnsupportedMediaType      415
├── TooMany                   429  a rate limit or a quota
├── Damaged                   500  a stored file is not what was written
├── NotOffered                501  a part of HTTP that the service does not have
├── Unavailable               503  worth trying again
├── Exhausted                 507  it takes more than the installation has; trying again does not help
│   └── StorageFull           507  a disk is full; trying again helps once something was deleted
└── TimedOut                  504  the caller's own time is up
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

MAX_STEP_CHARACTERS = 200


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the input.

    `pointer` is a JSON pointer (RFC 6901) into the body, `?name` for a query or `name` for a path parameter.
    """

    pointer: str
    code: str
    detail: str


def pointer(*steps: str | int) -> str:
    """The JSON pointer of these steps, escaped as RFC 6901 says. A key longer than any name is cut."""
    return "".join("/" + str(step)[:MAX_STEP_CHARACTERS].replace("~", "~0").replace("/", "~1") for step in steps)


class SensoriumError(Exception):
    """Base of all; `code` is stable and for programs, `detail` is for people."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    headers: Mapping[str, str] = {}

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.faults: tuple[Fault, ...] = ()


class BadInput(SensoriumError):
    """The request is understood and cannot be done as it stands; `faults` lists everything that is wrong."""

    status = 422
    title = "Invalid input"

    def __init__(self, faults: Sequence[Fault], code: str = "invalid_input") -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(code, f"{faults[0].detail}{more}")
        self.faults = tuple(faults)


class NotOurs(BadInput):
    """A token that we did not give, or not for this."""

    status = 400
    title = "Invalid token"


class Misconfigured(SensoriumError):
    """Settings with which no process can start. problems: one sentence per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in problems)
        detail = f"{len(problems)} settings are wrong:{lines}" if len(problems) > 1 else problems[0]
        super().__init__("misconfigured", detail)


class BadRequest(SensoriumError):
    """The head of the request is not what HTTP/1.1 asks for, so that nothing after it on the connection is trusted."""

    status = 400
    title = "Bad request"
    headers: Mapping[str, str] = {"Connection": "close"}


class Unauthenticated(SensoriumError):
    """No API key, or none that is valid."""

    status = 401
    title = "Unauthenticated"
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer, Basic realm="Sensorium"'}


class Forbidden(SensoriumError):
    """The key is valid, and lacks the scope that the call needs."""

    status = 403
    title = "Forbidden"

    def __init__(self, scope: str, detail: str, code: str = "insufficient_scope") -> None:
        super().__init__(code, detail)
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}


class NotFound(SensoriumError):
    """Nothing of that name in the caller's project."""

    status = 404
    title = "Not found"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind.replace(' ', '_')}_not_found", f"there is no {kind} {name!r} in this project")


class Conflict(SensoriumError):
    """The state of the resource does not allow it."""

    status = 409
    title = "Conflict"


class PreconditionFailed(SensoriumError):
    """Somebody else has changed it since the caller looked."""

    status = 412
    title = "Precondition failed"


class TooLarge(SensoriumError):
    """More bytes or rows than the service takes."""

    status = 413
    title = "Too large"


class UnsupportedMediaType(SensoriumError):
    """A content type this call does not read."""

    status = 415
    title = "Unsupported media type"


class TooMany(SensoriumError):
    """More requests, or more of something, than the project may have."""

    status = 429
    title = "Too many"

    def __init__(self, code: str, detail: str, retry_seconds: float) -> None:
        super().__init__(code, detail)
        self.headers = {"Retry-After": str(math.ceil(retry_seconds))}


class Damaged(SensoriumError):
    """A stored file is not what was written: trying again does not help, storing it again does."""

    status = 500
    title = "Damaged"


class NotOffered(SensoriumError):
    """The request needs a part of HTTP that the service does not have."""

    status = 501
    title = "Not implemented"
    headers: Mapping[str, str] = {"Connection": "close"}


class Unavailable(SensoriumError):
    """A part of the service is away for the moment."""

    status = 503
    title = "Unavailable"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Exhausted(SensoriumError):
    """It takes more memory or space than the installation has for it."""

    status = 507
    title = "Insufficient storage"


class StorageFull(Exhausted):
    """There is no space left to write to, except for what deletes."""

    def __init__(self, place: str) -> None:
        advice = "delete uploads, datasets, runs or versions that are not needed, or ask the operator for more space"
        super().__init__("storage_full", f"no space is left for new data ({place}): {advice}")


class TimedOut(SensoriumError):
    """The time that the caller gave was not enough."""

    status = 504
    title = "Timed out"

    def __init__(self, detail: str) -> None:
        super().__init__("timed_out", detail)
