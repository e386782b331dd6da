"""A query string to values: every parameter is checked, and one we don't know is refused."""

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from app.domain.ids import InvalidId, parse_id
from app.errors import FieldError, Invalid
from app.intake.shapes import invalid, read_moment

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

Reader = Callable[[str], Any]
"""From a parameter's text to its value; raises ValueError that says what would be right."""
Choice = TypeVar("Choice", bound=StrEnum)

_MOST_ERRORS = 100


class BadCursor(ValueError):
    """`after` is no id of this list."""


def read_query(query: Iterable[tuple[str, str]], reader_of: Callable[[str], Reader | None]) -> dict[str, Any]:
    """Each parameter's value. `reader_of` a name is None if there is no such parameter.

    Raises `Invalid` naming every wrong parameter under /query.
    """
    chosen: dict[str, Any] = {}
    wrong: list[FieldError] = []
    for name, value in query:
        reader = reader_of(name)
        try:
            if reader is None:
                raise ValueError("there is no such parameter")
            if name in chosen:
                raise ValueError("must be given once")
            chosen[name] = reader(value)
        except BadCursor as error:
            raise Invalid(
                "invalid_cursor", str(error), [FieldError("/query/after", "bad_format", "no id")]
            ) from None
        except ValueError as error:
            wrong.append(FieldError(f"/query/{name[:100]}", "bad_parameter", str(error)))
    if wrong:
        raise invalid(wrong[:_MOST_ERRORS])
    return chosen


def limit_to(most: int) -> Callable[[str], int]:
    """Reads the size of a page."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
            raise ValueError(f"must be a number from 1 to {most}")
        return int(text)

    return read


limit = limit_to(MAX_LIMIT)


def cursor(prefix: str, noun: str) -> Reader:
    """Reads the last id of the page before."""

    def read(text: str) -> UUID:
        try:
            return parse_id(prefix, text)
        except InvalidId:
            raise BadCursor(f"after must be the id of {noun}") from None

    return read


def id_of(prefix: str) -> Reader:
    """Reads an id to filter by."""

    def read(text: str) -> UUID:
        try:
            return parse_id(prefix, text)
        except InvalidId:
            raise ValueError(f"must be an id: {prefix}_ and 32 hex digits") from None

    return read


def one_of(choices: type[Choice]) -> Callable[[str], Choice]:
    """Reads one of these values."""

    def read(text: str) -> Choice:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(choices)}") from None

    return read


def moment(text: str) -> datetime:
    """A time. An unescaped + is a space by the time it gets here."""
    return read_moment(text.replace(" ", "+") if "T" in text else text)


def short(text: str, most: int) -> str:
    """A text as it is, if it is not long."""
    if len(text) > most or "\0" in text:
        raise ValueError(f"must have at most {most} characters, none of them U+0000")
    return text
