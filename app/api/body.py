"""Reading a request's JSON body: its type, then its size, then its depth, and only then its meaning."""

from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException

from app.api.services import services
from app.errors import Malformed, TooLarge, WrongMediaType
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
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    body = json_body.decompress(_read(limits.max_body_bytes), encoding, limits.max_body_bytes)
    return json_body.parse(body, limits.max_json_depth)


def read_optional_json() -> Any:
    """As `read_json`, or an empty object if the request has no body."""
    bare = not request.content_length and "Transfer-Encoding" not in request.headers
    return {} if bare else read_json()


def _read(limit: int) -> bytes:
    length = request.content_length
    if length is not None and length > limit:
        raise TooLarge("body_too_large", f"the body is over {limit} bytes")
    # One more than allowed: Werkzeug cuts a chunked body at its limit without a word.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # each server has errors of its own for a broken chunk or a lost client
        raise Malformed("bad_request", "the body's framing is broken, or it broke off") from error
    if len(body) > limit:
        raise TooLarge("body_too_large", f"the body is over {limit} bytes")
    if length is not None and len(body) != length:
        raise Malformed("bad_request", "the body is shorter than Content-Length says")
    return body
