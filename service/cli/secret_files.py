"""The secrets of an installation of containers, made at its first start: a folder for each who reads some of them.

`sensorium` has what SENSORIUM_SECRETS_DIR takes, `postgres` a password file, `redis` that and a configuration. What is
there stays; what a variable sets is written instead of being made up.
"""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from service.shared.errors import Misconfigured
from service.shared.settings import PREFIX, Settings

BYTES = 32


def make(folder: Path, settings: Settings) -> list[str]:
    """Write what is missing. Returns the names of the secrets that were made up.

    Raises Misconfigured for another database password than the one there is: PostgreSQL keeps what it was made with.
    """
    own = folder / "sensorium"
    given = {
        "secret_key": settings.secret_key,
        "database_password": settings.database_password,
        "broker_password": settings.broker_password,
    }
    made = []
    values: dict[str, str] = {}
    for name, secret in given.items():
        file = own / f"{PREFIX}{name}".lower()
        kept = file.read_text() if file.exists() else None
        if name == "database_password" and kept and _value(secret) not in (None, kept):
            told = "is another than the one there is: change it in PostgreSQL first (ALTER ROLE), then remove"
            raise Misconfigured([f"{PREFIX}DATABASE_PASSWORD {told} {file}"])
        values[name] = _value(secret) or kept or secrets.token_hex(BYTES)
        if values[name] not in (_value(secret), kept):
            made.append(name)
        if values[name] != kept:
            _write(file, values[name], 0o400)
    # These are read by other users, each in a container of its own, where nothing else is mounted.
    _write(folder / "postgres" / "password", values["database_password"], 0o444)
    _write(folder / "redis" / "password", values["broker_password"], 0o444)
    _write(folder / "redis" / "redis.conf", f"requirepass {_quoted(values['broker_password'])}\n", 0o444)
    return made


def _quoted(text: str) -> str:
    """As Redis reads it in a configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _write(file: Path, text: str, mode: int) -> None:
    """All of it or nothing: a start that is cut short leaves no half secret."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(text)
        part.chmod(mode)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
