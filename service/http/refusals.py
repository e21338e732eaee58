"""Error responses for requests that do not reach the application."""

from http import HTTPStatus

import orjson

from service.http.error_codes import PROBLEMS, type_of

MAX_HEAD_BYTES = 64 * 1024
MAX_FRAMING_BYTES = 16 * 1024


class Refusal(Exception):
    """A request that ends its connection. A parser callback that raises it ends the parsing too."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        title = PROBLEMS[code].title
        body = {"type": type_of(code), "title": title, "status": status, "detail": detail, "code": code}
        content = orjson.dumps({**body, "request_id": "", "errors": []})
        head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        self.answer = f"{head}content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content


HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"the request line and headers have more than {MAX_HEAD_BYTES} bytes",
)
FRAMING_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "trailers_too_large",
    f"the chunk sizes, chunk extensions and trailers of the body have more than {MAX_FRAMING_BYTES} bytes"
    " that are no content: send larger chunks, without extensions and trailers",
)
UPGRADE_WITH_BODY = Refusal(
    HTTPStatus.BAD_REQUEST,
    "upgrade_not_offered",
    "the request has a body and asks to upgrade the connection, which the service never does:"
    " send it as HTTP/1.1, without the header `Upgrade`",
)
NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "invalid_http", "the received bytes are not an HTTP/1.1 request")


def too_slow(seconds: float) -> Refusal:
    """The refusal of a request whose next bytes were not received within `seconds`."""
    detail = f"the rest of the request was not received within {seconds:g} s, send it without pauses"
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail)
