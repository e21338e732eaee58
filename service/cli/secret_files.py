"""Creates the secret files of an installation of containers at its first start: one folder per reader.

`sensorium` holds the files for SENSORIUM_SECRETS_DIR, `postgres` a password file, `redis` a password file and a
configuration file. A secret comes from its environment variable, else from its existing file, else it is generated.
"""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from service.shared.errors import Misconfigured
from service.shared.settings import PREFIX, Settings

BYTES = 32


def create(folder: Path, settings: Settings) -> list[str]:
    """Write the missing files. Returns the names of the generated secrets.

    Raises Misconfigured if the database password in the settings differs from the stored one: PostgreSQL keeps the
    password with which its volume was created.
    """
    own = folder / "sensorium"
    configured = {
        "secret_key": settings.secret_key,
        "database_password": settings.database_password,
        "broker_password": settings.broker_password,
    }
    generated = []
    values: dict[str, str] = {}
    for name, secret in configured.items():
        file = own / f"{PREFIX}{name}".lower()
        stored = file.read_text() if file.exists() else None
        if name == "database_password" and stored and _value(secret) not in (None, stored):
            advice = "change the password in PostgreSQL first (ALTER ROLE), then remove the file"
            raise Misconfigured([f"{PREFIX}DATABASE_PASSWORD differs from the stored one in {file}: {advice}"])
        values[name] = _value(secret) or stored or secrets.token_hex(BYTES)
        if values[name] not in (_value(secret), stored):
            generated.append(name)
        if values[name] != stored:
            _write(file, values[name], 0o400)
    # World-readable, because PostgreSQL and Redis run as other users. Each of their containers mounts one folder only.
    _write(folder / "postgres" / "password", values["database_password"], 0o444)
    _write(folder / "redis" / "password", values["broker_password"], 0o444)
    _write(folder / "redis" / "redis.conf", f"requirepass {_quoted(values['broker_password'])}\n", 0o444)
    return generated


def _quoted(text: str) -> str:
    """A quoted string of a Redis configuration file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _write(file: Path, text: str, mode: int) -> None:
    """Write a file atomically, so that an interrupted start leaves no partial secret."""
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
