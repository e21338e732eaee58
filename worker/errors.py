"""The error of an attempt that ended with an unexpected exception: a code, a sentence, and a reference to the log."""

import hashlib

from service.shared.errors import SensoriumError, Unavailable

# Errors of the environment: the next attempt may succeed, even after the same message.
ENVIRONMENT = (OSError, Unavailable)


def describe(error: Exception, log_name: str, *environment: type[Exception]) -> dict[str, str]:
    """`code` and `detail` of the error. The text of an exception that is not ours stays in the log.

    log_name: the log that has the traceback. environment: further types of errors of the environment. Their code is
    `unavailable`. All others have the code `fault`: the program is wrong, and the same detail at the next attempt ends
    the job. The exception's notes are part of the detail; they say how far the work was.
    """
    is_environment = isinstance(error, (*ENVIRONMENT, *environment))
    code = "unavailable" if is_environment else "fault"
    if isinstance(error, SensoriumError):
        return {"code": code, "detail": error.detail}
    what = "a file or a service that the job needs did not work" if is_environment else "the program failed"
    notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    return {"code": code, "detail": f"{what}{notes}: {log_name} has the traceback under reference {reference(error)}"}


def reference(error: Exception) -> str:
    """The reference of an exception: the same for the same type, message and notes."""
    text = "\n".join([type(error).__name__, str(error), *getattr(error, "__notes__", ())])
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
