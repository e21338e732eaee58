"""What an attempt reports of an exception that nobody expected."""

from service.shared.errors import Unavailable

# The surroundings: they may be well again at the next attempt, also where the message is the same.
SURROUNDINGS = (OSError, Unavailable)


def describe(error: Exception, *more_surroundings: type[Exception]) -> dict[str, str]:
    """`code` and `detail` of a job's error: the exception, and its notes, which say how far the work had come.

    Code `fault` is one of the program: with the same detail it would happen at every attempt.
    """
    code = "unavailable" if isinstance(error, (*SURROUNDINGS, *more_surroundings)) else "fault"
    notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    return {"code": code, "detail": f"{type(error).__name__}: {error}{notes}"}
