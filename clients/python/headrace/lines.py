"""What a user wants run in bulk, as the lines of a batch's file. Each keeps its number."""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from headrace.encoding import to_json
from headrace.types import Json

DEFAULT_ENDPOINT = "/v1/jobs"
_NAME = "custom_id"


def of_file(file: BinaryIO, model: str, endpoint: str) -> Iterator[bytes]:
    """Lines for the inputs in `file`, one JSON value a line.

    What is no JSON goes as it is, and blank lines too: it is the server that names every wrong line.
    """
    wrap = _Wrapper(model, endpoint)
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        text = text.strip()
        try:
            value = json.loads(text.decode())
            named = isinstance(value, dict) and _NAME in value
            wrapped = wrap.value(value, number) if named else wrap.text(text, number)
        except (ValueError, RecursionError):
            wrapped = text + b"\n"
        yield wrapped


def of_values(values: Iterable[Json], model: str | None, endpoint: str) -> Iterator[bytes]:
    """Lines for inputs; without a `model`, the values are lines already.

    Raises `TypeError` or `ValueError` for what is no JSON.
    """
    wrap = _Wrapper(model, endpoint) if model is not None else None
    for number, value in enumerate(values, start=1):
        yield wrap.value(value, number) if wrap else to_json(value) + b"\n"


def first_of(file: BinaryIO) -> Mapping[str, Any]:
    """The first line that is not blank, empty if it is no JSON object."""
    for line in file:
        if text := line.removeprefix(codecs.BOM_UTF8).strip():
            try:
                value = json.loads(text.decode())
            except (ValueError, RecursionError):
                return {}
            return value if isinstance(value, dict) else {}
    return {}


def is_request(line: Mapping[str, Any]) -> bool:
    """Whether it says what it is for, as a line of a batch does and an input does not."""
    return {"body", "url"} <= line.keys()


class _Wrapper:
    def __init__(self, model: str, endpoint: str) -> None:
        self._middle = (
            b',"method":"POST","url":'
            + to_json(endpoint)
            + b',"body":{"model":'
            + to_json(model)
            + b',"input":'
        )

    def text(self, text: bytes, number: int) -> bytes:
        """The line for an input that is JSON already: it is not written anew, so that its numbers stay."""
        return b'{"custom_id":"%d"%b%b}}\n' % (number, self._middle, text)

    def value(self, value: Json, number: int) -> bytes:
        """The line for an input, under its own `custom_id` if it has one."""
        name: Any = str(number)
        if isinstance(value, Mapping) and _NAME in value:
            value = dict(value)
            name = value.pop(_NAME)
            name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        return b'{"custom_id":%b%b%b}}\n' % (to_json(name), self._middle, to_json(value))
