"""Checks of the settings before a process starts. One message lists all problems; there is no traceback."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from pydantic_settings import SettingsError
from redis import RedisError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from service.shared.database_errors import lacks_schema
from service.shared.errors import Misconfigured, SensoriumError
from service.shared.settings import PREFIX, SECRETS_DIR, Settings, log_settings
from service.shared.signing import NO_KEY

log = structlog.get_logger(__name__)

BROKERS = ("filesystem", "redis", "rediss")


def read_settings(**options: object) -> Settings:
    """The settings from `options` and the environment. Raises Misconfigured, which lists all problems."""
    folder = os.environ.get(SECRETS_DIR)
    if folder and not Path(folder).is_dir():
        raise Misconfigured([f"{SECRETS_DIR} is {folder!r}, expected a folder: there is no such folder"])
    try:
        return Settings(**options)  # type: ignore[arg-type]  # Pydantic checks the types
    except ValidationError as error:
        raise Misconfigured(
            [f"{_variable(str(fault['loc'][0]))} {fault['msg']}" for fault in error.errors()]
        ) from error
    except SettingsError as error:
        detail = f"{SECRETS_DIR} is {folder!r}, expected text files of at most 16 MiB in total"
        raise Misconfigured([detail]) from error


def check(settings: Settings, *, signs: bool = False) -> None:
    """Raise Misconfigured, which lists every problem that keeps a process from starting with these settings.

    `signs`: the process signs tokens, and needs the secret key.
    """
    if problems := find_problems(settings, signs=signs):
        raise Misconfigured(problems)


def find_problems(settings: Settings, *, signs: bool) -> list[str]:
    """One sentence per problem that keeps a process from starting."""
    problems = [*_database(settings), *_broker(settings), *_folders(settings)]
    if signs and settings.secret_key is None and not settings.is_embedded:
        problems.append(NO_KEY)
    return problems


@contextmanager
def exit_with_message() -> Iterator[None]:
    """End the process with status 1 and one sentence, without a traceback, if the body raises an expected error."""
    try:
        yield
    except SensoriumError as error:
        raise _ending(error.detail) from error
    except SQLAlchemyError as error:
        if lacks_schema(error):
            detail = (
                f"the database ({PREFIX}DATABASE) does not have the tables of this release: run `sensorium db migrate`"
            )
            raise _ending(detail) from error
        raise _ending(f"the database ({PREFIX}DATABASE): {first_line(error)}") from error
    except RedisError as error:
        raise _ending(f"the broker ({PREFIX}BROKER): {first_line(error)}") from error
    except OSError as error:
        raise _ending(str(error)) from error


def _ending(detail: str) -> SystemExit:
    if not log_settings().log_json:
        return SystemExit(f"sensorium: {detail}")
    log.critical("start_failed", detail=detail)
    return SystemExit(1)


def _variable(name: str) -> str:
    """The environment variable that sets a field."""
    field = Settings.model_fields.get(name)
    return name if field is not None and field.validation_alias else f"{PREFIX}{name.upper()}"


def _database(settings: Settings) -> Iterator[str]:
    """Check that a driver for the URL is installed. The connection is tested by its first use."""
    try:
        make_url(settings.database_url).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        expected = "expected postgresql+psycopg://… or sqlite:///FILE"
        yield f"{PREFIX}DATABASE is not a usable database URL ({first_line(error)}), {expected}"


def _broker(settings: Settings) -> Iterator[str]:
    """Check that the scheme of the URL is supported. The connection is tested by its first use."""
    scheme = urlsplit(settings.broker).scheme
    if scheme not in BROKERS:
        yield f"{PREFIX}BROKER is a {scheme} URL, expected filesystem://, redis://HOST:PORT/NUMBER or rediss://…"


def _folders(settings: Settings) -> Iterator[str]:
    for variable, folder in {f"{PREFIX}HOME": settings.home, f"{PREFIX}STORAGE": settings.artifacts}.items():
        try:
            # The check creates no folder: the embedded stack accepts only an empty home, or one that a stack created.
            existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            user = f"user {os.geteuid()}"
            yield f"{variable} is {folder.absolute()}, where {user} cannot write: {error.strerror or error}"
            if variable == f"{PREFIX}HOME":
                return  # the other folders are usually inside it


def first_line(error: BaseException) -> str:
    """The first line of an error's text; of a SQLAlchemy error, that of the driver's error."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause) or type(cause).__name__).partition("\n")[0]
