"""HEAD: every GET without the body of its answer (RFC 9110, section 9.3.2)."""

from starlette.types import Message, Scope, Send

_IS_HEAD = "is_head"


def as_get(scope: Scope) -> Scope:
    """The scope that routes see: HEAD is GET to them."""
    return {**scope, "method": "GET", _IS_HEAD: True} if scope["method"] == "HEAD" else scope


def with_method(scope: Scope, method: str) -> Scope:
    """The scope that routes see of the same request with another method."""
    return as_get({**{key: value for key, value in scope.items() if key != _IS_HEAD}, "method": method})


def is_head(scope: Scope) -> bool:
    """Whether the client asks for the headers only. A route of a large body need not open it then."""
    return _IS_HEAD in scope


def method_of(scope: Scope) -> str:
    """The method that the client has sent."""
    method: str = scope["method"]
    return "HEAD" if is_head(scope) else method


def without_body(send: Send) -> Send:
    """A `send` that ends the answer after its headers. The server then tells a stream that its client is gone."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_headers
