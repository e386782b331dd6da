"""Bytes to JSON, refusing what would cost too much or change silently on the way.

Depth is checked before anything is parsed. Integers beyond 64 bits, numbers that no double can hold,
NaN and lone surrogates are refused with the place they stand at, because every later step (the queue,
the model, the client's own JSON library) might round or refuse them. Of duplicate keys the last wins.
"""

import json
import re
import zlib
from collections.abc import Iterator
from math import isfinite
from typing import Any

import orjson

from app.errors import FieldError, Invalid, Malformed, TooLarge, WrongMediaType

# The closing quote is optional, so that an unterminated string is one match and not a try per quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_PARENTHESES = bytes.maketrans(b"[]{}", b"()()")
_LONG_INTEGER = re.compile(rb"(?<![\d.])[1-9]\d{18,}(?![\d.eE])")
_LEAST, _MOST = -(2**63), 2**64 - 1
_DIGITS_OF_64_BITS = 20
_MOST_ERRORS = 100


class _TooBig:
    """Stands for an integer beyond 64 bits."""


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before `Content-Encoding`, never holding more than `limit` bytes of it."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise WrongMediaType("unsupported_media_type", "Content-Encoding must be gzip or identity")
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise Malformed("invalid_encoding", "the body is not gzip, as Content-Encoding says") from None
    if len(plain) > limit:
        raise TooLarge("body_too_large", f"the body is over {limit} bytes once decompressed")
    if not stream.eof or stream.unused_data:
        raise Malformed("invalid_encoding", "the gzip stream is cut short or followed by something")
    return plain


def parse(body: bytes, max_depth: int) -> Any:
    """The JSON value. Raises `Malformed` if it can't be read, `Invalid` if it has values we refuse."""
    if not body:
        raise Malformed("invalid_json", "the body is empty")
    check_depth(body, max_depth)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _explain(body, error) from None
    if _LONG_INTEGER.search(body):
        _refuse(_places(json.loads(body, parse_int=_integer)))
    return value


def check_depth(body: bytes, max_depth: int) -> None:
    """Raise `Malformed` if brackets nest deeper than `max_depth`. Linear in the body for each level."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = _STRING.sub(b"", body).translate(_AS_PARENTHESES, _NOT_BRACKETS)
    for _ in range(max_depth):
        peeled = brackets.replace(b"()", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    # What is left is deeper, or was never balanced: then up to `max_depth` it is the parser's to say.
    if brackets.count(b"(") > max_depth or b"()" in brackets:
        raise Malformed("json_too_deep", f"the JSON nests deeper than {max_depth} levels")


def pointer(path: Iterator[str | int] | list[str | int] | tuple[str | int, ...]) -> str:
    """A JSON pointer (RFC 6901) of these steps, safe to be printed."""
    text = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return text.encode("utf-8", "replace").decode()[:1000]


def _explain(body: bytes, error: orjson.JSONDecodeError) -> Malformed | Invalid:
    """Why orjson refused. What other parsers accept (NaN, 1e999, lone surrogates) is named by its place."""
    try:
        text = body.decode()
    except UnicodeDecodeError as wrong:
        return Malformed("invalid_utf8", f"the body is not UTF-8: {wrong.reason} at byte {wrong.start}")
    try:
        _refuse(_places(json.loads(text, parse_int=_integer)))
    except Invalid as invalid:
        return invalid
    except (ValueError, RecursionError):
        pass
    return Malformed(
        "invalid_json", f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    )


def _integer(digits: str) -> int | _TooBig:
    if len(digits.lstrip("-")) > _DIGITS_OF_64_BITS:
        return _TooBig()
    value = int(digits)
    return value if _LEAST <= value <= _MOST else _TooBig()


def _refuse(places: list[FieldError]) -> None:
    if places:
        raise Invalid("invalid_request", "the body has values that can't be kept as they are", places)


def _places(root: Any) -> list[FieldError]:
    found: list[FieldError] = []
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while stack and len(found) < _MOST_ERRORS:
        path, value = stack.pop()
        if isinstance(value, dict):
            for key in value:
                if not _encodable(key):
                    found.append(_place(path, "invalid_unicode", "a key has a lone surrogate"))
            stack += (((*path, key), value[key]) for key in reversed(value))
        elif isinstance(value, list):
            stack += (((*path, index), value[index]) for index in range(len(value) - 1, -1, -1))
        elif isinstance(value, _TooBig):
            found.append(_place(path, "number_out_of_range", "integers must fit in 64 bits"))
        elif isinstance(value, float) and not isfinite(value):
            found.append(_place(path, "number_out_of_range", "numbers must be finite: no NaN, no Infinity"))
        elif isinstance(value, str) and not _encodable(value):
            found.append(_place(path, "invalid_unicode", "the text has a lone surrogate"))
    return found


def _place(path: tuple[str | int, ...], code: str, message: str) -> FieldError:
    return FieldError(pointer(path), code, message)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
