"""URLs of servers whose password is a setting of its own, such as a secret file of a container."""

from urllib.parse import quote, urlsplit

from pydantic import SecretStr


def contradictions(name: str, url: str | None, password: SecretStr | None) -> list[tuple[str, str]]:
    """Pairs of a setting and its fault. The URL is not repeated, since it may contain a password."""
    if url is None:
        return [(f"{name}_password", f"is set, expected SENSORIUM_{name.upper()} to be set too")] if password else []
    try:
        parsed = urlsplit(url)
        whole = bool(parsed.scheme) and (parsed.port or True)
    except ValueError:
        whole = False
    if not whole:
        return [(name, "is not a URL, expected SCHEME://USER@HOST:PORT/NAME")]
    if password and (parsed.password or not parsed.hostname):
        why = "the URL has a password already" if parsed.password else "the URL names no server"
        return [(f"{name}_password", f"is set, but SENSORIUM_{name.upper()} cannot take it: {why}")]
    return []


def with_password(url: str, password: SecretStr | None) -> str:
    """The URL with the password in it."""
    if password is None:
        return url
    parsed = urlsplit(url)
    user, _, server = parsed.netloc.rpartition("@")
    return parsed._replace(netloc=f"{user}:{quote(password.get_secret_value(), safe='')}@{server}").geturl()
