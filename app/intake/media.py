"""Which places of an input are media: what the model's JSON schema says of this very input.

The validator is asked, not the schema walked: of two branches of a union, only the one that the input fits
says what its places are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson

from app.db import files
from app.db.engine import Engine
from app.domain.egress import Blocked, Refused
from app.domain.media import (
    MARK,
    MOST,
    BadMedia,
    FileReference,
    Media,
    MediaPolicy,
    UrlReference,
    read_reference,
)
from app.errors import FieldError, Invalid
from app.intake.unkept import pointer

_MOST_CANDIDATES = 1000

Step = str | int
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where media stands in an input, and what stands there."""

    path: Path
    value: Any

    @property
    def pointer(self) -> str:
        """The place in the request."""
        return pointer(["input", *self.path])


class TooManyMedia(ValueError):
    """More than one job may have."""


class MediaFinder:
    """Finds the media in inputs of one version."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = jsonschema_rs.Draft202012Validator(schema)

    @classmethod
    def of(cls, schema: dict[str, Any]) -> "MediaFinder | None":
        """None for a version that takes no media."""
        return cls(schema) if is_marked(schema) else None

    def find(self, value: Any) -> list[Place]:
        """The places of media in an input that fits the schema. Raises `TooManyMedia`."""
        text = orjson.dumps(value)
        # What may be media. Asking the validator about a million places would take seconds.
        candidates = sum(map(text.count, (b'"file_id"', b'"data:', b'"http')))
        if not candidates:
            return []
        if candidates > _MOST_CANDIDATES:
            raise TooManyMedia
        marked = {
            found["instanceLocation"]
            for found in self._validator.evaluate(value).annotations()
            if isinstance(found["annotations"], dict) and found["annotations"].get(MARK) is True
        }
        if len(marked) > MOST:
            raise TooManyMedia
        return [_place(value, location) for location in sorted(marked)]


def is_marked(schema: dict[str, Any]) -> bool:
    """Whether media may stand anywhere in what this schema describes."""
    return f'"{MARK}":true'.encode() in orjson.dumps(schema)


def put(value: Any, path: Path, media: Media) -> Any:
    """The input with `media` in this place. Changes `value` itself, unless it is the place."""
    if not path:
        return media
    at = value
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = media
    return value


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that an input names, and where."""

    pointer: str
    id: UUID


@dataclass(frozen=True, slots=True)
class MediaCheck:
    """What accept asks of the media in inputs of one version."""

    finder: MediaFinder
    policy: MediaPolicy

    def __call__(self, value: Any) -> tuple[list[FieldError], list[NamedFile]]:
        """What is wrong with the media of an input that fits the schema, and the files that they name."""
        try:
            places = self.finder.find(value)
        except TooManyMedia:
            return [FieldError("/input", "too_long", f"must have at most {MOST} media")], []
        errors, named = [], []
        for place in places:
            try:
                reference = read_reference(place.value)
                if isinstance(reference, UrlReference):
                    self.policy.check_url(reference.url)
                elif isinstance(reference, FileReference):
                    named.append(NamedFile(f"{place.pointer}/file_id", reference.id))
            except BadMedia as bad:
                errors.append(FieldError(place.pointer, bad.code, str(bad)))
            except Refused as refused:
                code = "blocked_url" if isinstance(refused, Blocked) else "invalid_url"
                errors.append(FieldError(place.pointer, code, str(refused)))
        return errors, named


def check_files(engine: Engine, tenant_id: int, named: Sequence[NamedFile]) -> None:
    """Raise `Invalid` (`invalid_input`) unless all of these are files of the tenant. None: costs nothing."""
    if not named:
        return
    there = files.those_there(engine, [(tenant_id, file.id) for file in named])
    errors = [
        FieldError(file.pointer, "file_not_found", "there is no such file")
        for file in named
        if (tenant_id, file.id) not in there
    ]
    if errors:
        raise Invalid("invalid_input", "the input names a file that is not there", errors)


def _place(value: Any, location: str) -> Place:
    path: list[Step] = []
    for text in _steps(location):
        step: Step = int(text) if isinstance(value, list) else text
        path.append(step)
        value = value[step]
    return Place(tuple(path), value)


def _steps(location: str) -> Iterator[str]:
    for part in location.split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")
