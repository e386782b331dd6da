"""Bytes to JSON, refusing what would cost too much or change silently on the way.

Depth is checked before anything is parsed. Integers beyond 64 bits, numbers that no double can hold,
NaN and lone surrogates are refused with the place they stand at, because every later step (the queue,
the model, the client's own JSON library) might round or refuse them. Of duplicate keys the last wins.
"""

import re
import zlib
from array import array
from itertools import accumulate
from typing import Any

import orjson

from app.errors import Malformed, TooLarge, WrongMediaType
from app.intake import unkept

# The closing quote is optional, so that an unterminated string is one match and not a try per quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UP_AND_DOWN = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # as signed bytes: +1 and -1
_LONG_INTEGER = re.compile(rb"(?<![\d.eE+-])-?[1-9]\d{18,}(?![\d.eE])")


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
        # What other parsers accept (NaN, 1e999, lone surrogates) is named by its place.
        unkept.refuse(_decoded(body))
        raise Malformed(
            "invalid_json", f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    # Where there are such digits at all, and they are no text and too many, orjson has rounded them.
    if _LONG_INTEGER.search(body) and any(map(unkept.too_big, _integers(body))):
        unkept.refuse(body.decode(), surely=True)
    return value


def check_depth(body: bytes, max_depth: int) -> None:
    """Raise `Malformed` if brackets nest deeper than `max_depth`. Linear in the body, whatever is in it."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = _STRING.sub(b"", body).translate(_UP_AND_DOWN, _NOT_BRACKETS)
    if max(accumulate(array("b", brackets)), default=0) > max_depth:
        raise Malformed("json_too_deep", f"the JSON nests deeper than {max_depth} levels")


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as wrong:
        raise Malformed(
            "invalid_utf8", f"the body is not UTF-8: {wrong.reason} at byte {wrong.start}"
        ) from None


def _integers(body: bytes) -> list[bytes]:
    return _LONG_INTEGER.findall(_STRING.sub(b'""', body))
