"""How an attempt reports an unexpected exception."""

from service.shared.errors import Unavailable

# Errors of the environment: the next attempt may succeed, even after the same message.
ENVIRONMENT = (OSError, Unavailable)


def describe(error: Exception, *environment: type[Exception]) -> dict[str, str]:
    """`code` and `detail` of a job's error. The exception's notes follow its message; they say how far the work was.

    environment: further types of errors of the environment. Their code is `unavailable`. All others have the code
    `fault`: the program is wrong, and the same detail at the next attempt ends the job.
    """
    code = "unavailable" if isinstance(error, (*ENVIRONMENT, *environment)) else "fault"
    notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    return {"code": code, "detail": f"{type(error).__name__}: {error}{notes}"}
