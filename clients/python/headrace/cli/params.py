"""Reading what was typed: ids, `key=value` pairs, JSON. Every error says what would be right."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from math import isnan
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast, get_args
from urllib.parse import urlsplit

import click

from headrace.admin_api import checked_key_id, checked_tenant
from headrace.types import WebhookEventType


class Id(click.ParamType):
    """An id by its prefix, so that another kind of id is caught before it is sent."""

    name = "id"

    def __init__(self, prefix: str, whose: str) -> None:
        self._prefix = prefix
        self._whose = whose

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).startswith(self._prefix):
            self.fail(f"{value!r} is not {self._whose} id ({self._prefix}…)", param, ctx)
        return str(value)


class OutFile(click.Path):
    """A file to write. That it can't be is said before anything runs whose results would be lost."""

    def __init__(self, *, path_type: type[Path] | None = None) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        file = Path(os.fsdecode(path))
        folder = file.parent
        if file.exists() and not file.is_file():
            # The whole one takes its place at the end.
            self.fail(f"{str(file)!r} is no ordinary file; pipe stdout instead", param, ctx)
        if not folder.is_dir():
            self.fail(f"there is no folder {str(folder)!r}", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"the folder {str(folder)!r} can't be written to", param, ctx)
        return path


class Seconds(click.FloatRange):
    """A time in seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if isnan(seconds):  # It is in every range.
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


class Checked(click.ParamType):
    """Text that `check` lets through: it returns it, or raises ValueError that says what would be right."""

    def __init__(self, name: str, check: Callable[[str], str]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return self._check(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Limit(click.ParamType):
    """`NAME=N`, or `NAME=default`, which is None."""

    name = "limit"

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        name, _, text = str(value).partition("=")
        if name not in self._known:
            self.fail(f"{name!r} is no limit; there are {', '.join(self._known)}", param, ctx)
        if text == "default":
            return name, None
        if not (text.isascii() and text.isdecimal()):
            self.fail(f"{name} must be a whole number (0: no limit), or default", param, ctx)
        return name, int(text)


class Events(click.ParamType):
    """Names of events with commas between, each once."""

    name = "events"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[WebhookEventType, ...]:
        known = get_args(WebhookEventType)
        given = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        for word in given:
            if word not in known:
                self.fail(f"{word!r} is no event; there are {', '.join(known)}", param, ctx)
        return cast(tuple[WebhookEventType, ...], given)


class HttpUrl(click.ParamType):
    """An http or https URL without a user in it."""

    name = "url"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = str(value)
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or " " in url:
            self.fail(f"the URL must look like {self._example}", param, ctx)
        if "@" in parts.netloc:
            self.fail("the URL must have no user or password", param, ctx)
        return url


class Pair(click.ParamType):
    """`key=value`; where `typed`, also `key:=json` for a value that is not text."""

    name = "key=value"

    def __init__(self, *, typed: bool = False) -> None:
        self._typed = typed

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        key, equals, text = str(value).partition("=")
        if not equals or not key.rstrip(":"):
            self.fail(f"{value!r} is not key=value", param, ctx)
        if self._typed and key.endswith(":"):
            try:
                return key[:-1], parse_json(os.fsencode(text))
            except ValueError as error:
                self.fail(f"{key}={text}: {error}; for text write {key[:-1]}={text}", param, ctx)
        return key, text


JOB = Id("job_", "a job's")
ENDPOINT = Id("whk_", "a webhook endpoint's")
FILE = Id("file_", "a file's")
BATCH = Id("batch_", "a batch's")
DELIVERY = Id("dlv_", "a delivery's")
TENANT = Checked("tenant", checked_tenant)
KEY = Checked("id", checked_key_id)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
job_id = click.argument("job_id", metavar="ID", type=JOB)
batch_id = click.argument("batch_id", metavar="ID", type=BATCH)
events_option = click.option("--events", metavar="EVENT,…", type=Events(), help="Default: job.completed.")
limit_option = click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
metadata_option = click.option(
    "--metadata", metavar="KEY=VALUE", type=Pair(), multiple=True, help="May be repeated."
)


def parse_json(text: bytes) -> Any:
    """Parse strictly: NaN and Infinity are no JSON. Raises `ValueError` that says where."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON: {error.msg} ({place})") from None
    except UnicodeDecodeError:
        raise ValueError("not JSON: not UTF-8") from None
    except RecursionError:
        raise ValueError("not JSON we can read: nested too deep") from None


def read_input(argument: str | None, file: BinaryIO | None, pairs: tuple[tuple[str, Any], ...]) -> Any:
    """The job's input, from the one source that was given."""
    if (argument is not None) + (file is not None) + bool(pairs) != 1:
        raise click.UsageError("give the input once: as JSON, --input-file FILE, - or -i KEY=VALUE")
    if pairs:
        return dict(pairs)
    if argument == "-":
        file = sys.stdin.buffer
    text = os.fsencode(argument or "") if file is None else file.read()
    try:
        return parse_json(text)
    except ValueError as error:
        raise click.UsageError(f"the input is {error}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"not JSON: {constant} is no number there")
