"""Reading a request's JSON body: its type, then its size, then its depth, and only then its meaning."""

from typing import Any

from flask import request

from app.api.services import services
from app.errors import TooLarge, WrongMediaType
from app.intake import json_body


def read_json() -> Any:
    """The body as JSON. Raises what `app/intake/json_body.py` raises, `WrongMediaType` or `TooLarge`.

    Nothing over the limit is ever held: a length that is too large is refused unread, a chunked body is
    read up to the limit, and a compressed one is decompressed up to it.
    """
    limits = services().settings.api
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8"):
        raise WrongMediaType("unsupported_media_type", "Content-Type must be application/json in UTF-8")
    if (request.content_length or 0) > limits.max_body_bytes:
        raise TooLarge("body_too_large", f"the body is over {limits.max_body_bytes} bytes")
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    body = json_body.decompress(request.get_data(cache=False), encoding, limits.max_body_bytes)
    return json_body.parse(body, limits.max_json_depth)
