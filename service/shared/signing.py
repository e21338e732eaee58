"""Signs what clients carry for us, such as paging tokens: they can read it, and not make or change it."""

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
    "SENSORIUM_SECRET_KEY is not set: with a database server or Redis all processes need the same one; "
    "make one with `openssl rand -hex 32`"
)


class Forged(ValueError):
    """A token that none of our keys has signed for this purpose."""


class Signer:
    """Signs with the first of some keys, and reads what any of them has signed."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = list(reversed(keys))  # itsdangerous signs with the last

    def sign(self, purpose: str, value: Any) -> str:
        """A token that says `value`, good for one purpose. It is signed, not secret."""
        return str(URLSafeSerializer(self._keys, salt=purpose).dumps(value))

    def read(self, purpose: str, token: str) -> Any:
        """What a token says. Raises Forged."""
        try:
            return URLSafeSerializer(self._keys, salt=purpose).loads(token)
        except BadData as error:
            raise Forged(str(error)) from error


def from_settings(settings: Settings) -> Signer:
    """The installation's signer. An embedded stack makes its key by itself, in a file that only its owner reads.

    Raises Misconfigured when several processes would sign with different keys.
    """
    if settings.secret_key is not None:
        return Signer(split_keys(settings.secret_key.get_secret_value()))
    if not settings.is_embedded:
        raise Misconfigured([NO_KEY])
    return Signer(split_keys(_own_key(settings.home / KEY_FILE)))


def _own_key(file: Path) -> str:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, written = tempfile.mkstemp(dir=file.parent)  # for its owner alone
        try:
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(written, file)  # whole, and only if no other process was faster
        finally:
            Path(written).unlink()
    return file.read_text()
