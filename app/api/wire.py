"""Problems for requests that never reach the application: what gunicorn itself refuses.

A bad request line, a header over the limit, a broken chunk: gunicorn would answer with HTML.
"""

from http import HTTPStatus
from uuid import uuid4

import orjson


def problem_response(status: int) -> bytes:
    """A whole HTTP/1.1 answer with the members of any other problem, after which the connection closes."""
    phrase = HTTPStatus(status).phrase
    code = "internal_error" if status >= 500 else "bad_request"
    request_id = f"req_{uuid4().hex}"
    detail = "The request line, a header or the body's framing can't be understood."
    body = orjson.dumps(
        {
            "type": f"/docs/errors#{code}",
            "title": phrase,
            "status": status,
            "detail": detail,
            "instance": "",
            "code": code,
            "request_id": request_id,
            "retryable": False,
            "errors": [],
            "error": {
                "message": detail,
                "type": "server_error" if status >= 500 else "invalid_request_error",
                "param": None,
                "code": code,
            },
        }
    )
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
