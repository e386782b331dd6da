"""Reading a form with a file in it as it arrives: the file is passed on, never held."""

from collections.abc import Callable, Iterator

from flask import request
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from app.errors import FieldError, Invalid, Malformed, WrongMediaType
from app.intake.shapes import invalid

OVERHEAD = 64 * 1024
"""Bytes that a form may have besides its file."""

_READ = 64 * 1024
# What the decoder holds while it looks for the end of a part's head; never less than two reads.
_HELD = 2 * _READ
_MOST_PARTS = 16
_MOST_FIELD_BYTES = 4096
_MOST_BOUNDARY = 200


def read_multipart(file: str, write: Callable[[bytes], None], most: int) -> dict[str, str]:
    """The request's form, read to its end: the bytes of its part `file` go to `write`, `most` at most.

    Returns each field's text; for the file, its name. Raises `WrongMediaType` or `Malformed` for what is no
    such form, and `Invalid` for a field that is given twice, is too long, or should be no file. What else is
    too large or too many is a 413 of the framework.
    """
    fields: dict[str, str] = {}
    name, held = "", bytearray()
    for event in _events(most):
        if isinstance(event, Field | File):
            name = event.name or ""
            if name in fields:
                raise _wrong(name, "repeated", "must be given once")
            if isinstance(event, File) != (name == file):
                raise _wrong(name, "wrong_type", "must be a file with a filename; no other field may be")
            fields[name] = event.filename if isinstance(event, File) else ""
            held.clear()
        elif isinstance(event, Data) and name == file:
            write(event.data)
        elif isinstance(event, Data):
            held += event.data
            if len(held) > _MOST_FIELD_BYTES:
                raise _wrong(name, "too_long", f"must have at most {_MOST_FIELD_BYTES} bytes")
            if not event.more_data:
                fields[name] = _decoded(held)
    return fields


def _events(most: int) -> Iterator[Event]:
    boundary = request.mimetype_params.get("boundary", "")
    encoded = request.headers.get("Content-Encoding", "identity").strip().lower() != "identity"
    if request.mimetype != "multipart/form-data" or encoded:
        raise WrongMediaType(
            "unsupported_media_type", "send the file as multipart/form-data, without a Content-Encoding"
        )
    if not (0 < len(boundary) <= _MOST_BOUNDARY and boundary.isascii()):
        raise _no_form("Content-Type names no boundary")
    decoder = MultipartDecoder(boundary.encode(), _HELD, max_parts=_MOST_PARTS)
    request.max_content_length = most + OVERHEAD
    while True:
        data = request.stream.read(_READ)
        decoder.receive_data(data or None)
        while not isinstance(event := _next(decoder), NeedData | Epilogue):
            yield event
        if isinstance(event, Epilogue):
            return


def _next(decoder: MultipartDecoder) -> Event:
    try:
        return decoder.next_event()
    except ValueError as error:
        raise _no_form("a part's head can't be read, or the form breaks off") from error


def _decoded(text: bytearray) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _no_form("its fields are not UTF-8") from None


def _no_form(why: str) -> Malformed:
    return Malformed("invalid_multipart", f"the body is not multipart/form-data: {why}")


def _wrong(name: str, code: str, message: str) -> Invalid:
    return invalid([FieldError(f"/{name[:100]}", code, message)])
