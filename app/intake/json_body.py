"""Bytes to JSON, refusing what would cost too much or change silently on the way.

Depth is checked before anything is parsed. Integers beyond 64 bits, numbers that no double can hold,
NaN and lone surrogates are refused with the place they stand at, because every later step (the queue,
the model, the client's own JSON library) might round or refuse them. Of duplicate keys the last wins.
"""

import json
import re
import zlib
from array import array
from collections.abc import Iterable
from itertools import accumulate
from math import isfinite
from typing import Any

import orjson

from app.errors import FieldError, Invalid, Malformed, TooLarge, WrongMediaType

# The closing quote is optional, so that an unterminated string is one match and not a try per quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UP_AND_DOWN = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # as signed bytes: +1 and -1
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
    """Raise `Malformed` if brackets nest deeper than `max_depth`. Linear in the body, whatever is in it."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = _STRING.sub(b"", body).translate(_UP_AND_DOWN, _NOT_BRACKETS)
    if max(accumulate(array("b", brackets)), default=0) > max_depth:
        raise Malformed("json_too_deep", f"the JSON nests deeper than {max_depth} levels")


def pointer(path: Iterable[str | int]) -> str:
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
        read_integer = _integer if _LONG_INTEGER.search(body) else None
        _refuse(_places(json.loads(text, parse_int=read_integer)))
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
            if not all(map(_encodable, value)):
                found.append(FieldError(pointer(path), "invalid_unicode", "a key has a lone surrogate"))
            children: Iterable[tuple[str | int, Any]] = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        else:
            children = [("", value)]
        for step, child in children:
            if isinstance(child, dict | list):
                stack.append(((*path, step), child))
            elif (wrong := _wrong(child)) and len(found) < _MOST_ERRORS:
                found.append(FieldError(pointer((*path, step) if value is not child else path), *wrong))
    return found


def _wrong(value: Any) -> tuple[str, str] | None:
    if isinstance(value, float) and not isfinite(value):
        return "number_out_of_range", "numbers must be finite: no NaN, no Infinity"
    if isinstance(value, _TooBig):
        return "number_out_of_range", "integers must fit in 64 bits"
    if isinstance(value, str) and not _encodable(value):
        return "invalid_unicode", "the text has a lone surrogate"
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
