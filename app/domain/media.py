"""Media of a job's input: an image, a sound, any bytes. A model says `Media` where it takes one.

    class Input(BaseModel):
        image: Media

A client then sends one of three, and the model gets the bytes, whichever it was:

    {"file_id": "file_…"}              a file of its own
    "data:image/png;base64,iVBORw…"    the bytes themselves, `MAX_DATA_BYTES` at most
    "https://example.com/cat.png"      where they are
"""

import base64
import io
import mimetypes
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from uuid import UUID

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from app.domain.egress import Blocked, EgressPolicy
from app.domain.ids import parse_id

MARK = "x-headrace-media"
"""The keyword that a JSON schema has where media may stand."""
MAX_DATA_BYTES = 256 * 1024
"""The most bytes in a data URL, decoded."""
MOST = 64
"""How many media one job may have."""
UNKNOWN_TYPE = "application/octet-stream"

_MAX_URL = 2048
# Percent-encoded, a byte takes three characters.
_MAX_TEXT = 3 * MAX_DATA_BYTES + 256
_MAX_NAME = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HEAD = re.compile(
    r"data:(?P<type>[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)?(?P<parameters>(?:;[^;,\"]+)*?)(?P<base64>;base64)?,",
    re.IGNORECASE,
)
_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|[^!-~]")


@dataclass(frozen=True, slots=True)
class Media:
    """One image, sound or other file of an input, whole and in memory.

    `content_type` is what the client, the file's name or the server said, and `filename` is a name and never
    a path. Nobody has looked whether they are true.
    """

    bytes: bytes = field(repr=False)
    content_type: str = UNKNOWN_TYPE
    filename: str | None = None

    def open(self) -> BinaryIO:
        """The bytes as a file to read, for libraries that want one."""
        return io.BytesIO(self.bytes)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # Not `anyOf`: what is wrong is named by its own keyword.
        return {
            MARK: True,
            "title": "Media",
            "description": 'A file of yours as {"file_id": "file_…"}, a data URL of at most '
            f"{MAX_DATA_BYTES // 1024} KiB, or an https URL.",
            "type": ["string", "object"],
            "pattern": r"^(https?://|data:)",
            "maxLength": _MAX_TEXT,
            "properties": {"file_id": {"type": "string", "pattern": "^file_[0-9a-f]{32}$"}},
            "required": ["file_id"],
            "additionalProperties": False,
        }


class BadMedia(ValueError):
    """What can't be media. `code` is stable; the message repeats nothing of the input."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that the tenant has sent before."""

    id: UUID


@dataclass(frozen=True, slots=True)
class UrlReference:
    """Where the bytes can be had."""

    url: str

    @property
    def filename(self) -> str | None:
        """The last part of its path, as a name."""
        return safe_name(unquote(urlsplit(self.url).path))


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """Which media may be asked for. As it stands: from the public internet, by https."""

    egress: EgressPolicy = field(default_factory=EgressPolicy)
    urls: bool = True
    """Whether URLs are fetched at all."""

    def check_url(self, url: str) -> None:
        """Raise `Refused` unless this URL may be fetched, whatever DNS says."""
        if not self.urls:
            raise Blocked("can't be fetched: this server takes files and data URLs only")
        self.egress.check_url(url)


def read_reference(value: Any) -> Media | FileReference | UrlReference:
    """What stands where the schema says `Media`. A data URL is decoded here. Raises `BadMedia`."""
    if isinstance(value, dict):
        return FileReference(parse_id("file", value["file_id"]))
    if value.startswith("data:"):
        return read_data_url(value)
    if len(value) > _MAX_URL:
        raise BadMedia("too_long", f"must be a URL of at most {_MAX_URL} characters")
    return UrlReference(value)


def read_data_url(text: str) -> Media:
    """Decode a data URL (RFC 2397). Raises `BadMedia`."""
    head = _HEAD.match(text)
    if head is None:
        raise BadMedia("invalid_data_url", "must be a data URL like data:image/png;base64,…")
    decode = _from_base64 if head["base64"] else _from_percent
    content = decode(text[head.end() :])
    if len(content) > MAX_DATA_BYTES:
        raise _too_long()
    return Media(content, (head["type"] or "text/plain").lower())


def _too_long() -> BadMedia:
    return BadMedia("too_long", f"must have at most {MAX_DATA_BYTES} bytes, decoded; upload a file for more")


def _from_base64(text: str) -> bytes:
    # 4 characters are 3 bytes: what is too long is not decoded to find out.
    if len(text) > 4 * (MAX_DATA_BYTES // 3 + 1):
        raise _too_long()
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadMedia(
            "invalid_data_url", "must have base64 after the comma: A-Z a-z 0-9 + / and ="
        ) from None


def _from_percent(text: str) -> bytes:
    if _NOT_ENCODED.search(text):
        raise BadMedia("invalid_data_url", "must percent-encode what is no plain ASCII, or say ;base64")
    return unquote_to_bytes(text)


def safe_name(path: str) -> str | None:
    """The last part of a path as a name, if it can be one."""
    name = path.replace("\\", "/").rpartition("/")[2]
    if not 0 < len(name) <= _MAX_NAME or name in (".", "..") or _CONTROL.search(name):
        return None
    return name


def type_by_name(filename: str | None) -> str:
    """The content type that a file's name speaks for."""
    return mimetypes.guess_type(filename or "")[0] or UNKNOWN_TYPE
