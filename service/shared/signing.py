"""Signs tokens for clients, such as page tokens. A client can read a token, but not create or change one."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from service.shared.errors import Misconfigured
from service.shared.settings import Settings, split_keys

KEY_FILE = "secret-key"
NO_KEY = (
    "SENSORIUM_SECRET_KEY is not set, expected the same key in all processes when a database server or Redis is used; "
    "generate one with `openssl rand -hex 32`"
)


class Forged(ValueError):
    """The token is not signed with one of the keys for this purpose."""


class Signer:
    """Signs with the first key, and accepts signatures of all keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = list(reversed(keys))  # itsdangerous signs with the last

    def sign(self, purpose: str, value: Any) -> str:
        """A token that contains `value`, valid for one purpose. It is signed, not encrypted."""
        return str(URLSafeSerializer(self._keys, salt=purpose).dumps(value))

    def read(self, purpose: str, token: str) -> Any:
        """The value in a token. Raises Forged."""
        try:
            return URLSafeSerializer(self._keys, salt=purpose).loads(token)
        except BadData as error:
            raise Forged(str(error)) from error


def from_settings(settings: Settings) -> Signer:
    """The installation's signer. The embedded stack generates its key in a file that only its owner can read.

    Raises Misconfigured if the key is unset and the processes do not share a home folder.
    """
    if settings.secret_key is not None:
        return Signer(split_keys(settings.secret_key.get_secret_value()))
    if not settings.is_embedded:
        raise Misconfigured([NO_KEY])
    return Signer(split_keys(_generated_key(settings.home / KEY_FILE)))


def _generated_key(file: Path) -> str:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, file)  # atomic; keeps the key of another process that was faster
        finally:
            Path(temporary).unlink()
    return file.read_text()
