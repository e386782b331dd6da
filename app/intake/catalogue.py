"""The registered models as intake sees them: found by name, each with its compiled input schema."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from app.db import models
from app.db.engine import Engine
from app.domain.media import MediaPolicy
from app.domain.model import ModelVersion
from app.errors import FieldError, Invalid, NotFound
from app.intake.cache import TtlCache
from app.intake.media import MediaCheck, MediaFinder

_CACHED_VERSIONS = 2048
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Listed:
    """A model version and how it is used: ready to validate inputs."""

    version: ModelVersion
    validator: jsonschema_rs.Draft202012Validator
    check_media: MediaCheck | None = None
    """None: the version takes no media."""

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.version.spec.name}@{self.version.spec.version}"


class Catalogue:
    """Finds model versions, remembering each for a moment: a new current version is seen within it."""

    def __init__(
        self,
        engine: Engine,
        ttl_s: float,
        clock: Callable[[], float],
        media: MediaPolicy = MediaPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """`media` says which URLs inputs may name."""
        self._engine = engine
        self._media = media
        self._cache: TtlCache[tuple[str, str | None], Listed] = TtlCache(_CACHED_VERSIONS, ttl_s, clock)

    def find(self, name: str, version: str | None) -> Listed | None:
        """The version, or the current one if `version` is None."""
        if not _NAME.fullmatch(name) or (version is not None and not _VERSION.fullmatch(version)):
            return None
        return self._cache.get((name, version), lambda: self._load(name, version))

    def resolve(self, model: str, version: str | None) -> Listed:
        """What a request means by `name` or `name@version` and its `version`. Raises `Invalid`."""
        name, at, inline = model.partition("@")
        if at and version is not None and inline != version:
            raise _invalid("version_mismatch", "/version", f"{model!r} and version {version!r} differ")
        wanted = inline if at else version
        listed = self.find(name, wanted)
        if listed is not None:
            return listed
        if wanted is None or self.find(name, None) is None:
            raise _invalid(
                "unknown_model", "/model", f"there is no model {name[:128]!r}; GET /v1/models lists them"
            )
        pointer = "/model" if at else "/version"
        raise _invalid("unknown_version", pointer, f"model {name!r} has no version {wanted[:128]!r}")

    def by_id(self, version_id: int) -> Listed:
        """The version with this id, which must be one: versions are never removed."""
        found = models.by_id(self._engine, version_id)
        assert found is not None
        return list_version(found, self._media)

    def get(self, model: str) -> Listed:
        """The version named by a URL. Raises `NotFound`."""
        name, at, version = model.partition("@")
        listed = self.find(name, version if at else None)
        if listed is None:
            raise NotFound("model_not_found", "there is no such model; GET /v1/models lists them")
        return listed

    def _load(self, name: str, version: str | None) -> Listed | None:
        found = models.find(self._engine, name, version)
        return None if found is None else list_version(found, self._media)


def list_version(version: ModelVersion, media: MediaPolicy) -> Listed:
    """The version with its schema compiled. `media` says which URLs its inputs may name."""
    validator, finder = _compile(orjson.dumps(version.spec.input_schema))
    return Listed(version, validator, MediaCheck(finder, media) if finder else None)


@lru_cache(maxsize=_CACHED_VERSIONS)
def _compile(schema: bytes) -> tuple[jsonschema_rs.Draft202012Validator, MediaFinder | None]:
    read = orjson.loads(schema)
    # Masked: a message must not repeat the value it is about.
    validator = jsonschema_rs.Draft202012Validator(read, mask="the value", validate_formats=True)
    return validator, MediaFinder.of(read)


def _invalid(code: str, pointer: str, message: str) -> Invalid:
    return Invalid(code, message, [FieldError(pointer, code, message)])


def describe(listed: ModelVersion) -> dict[str, Any]:
    """What clients may know of a version; where its code is stays with the operator."""
    spec = listed.spec
    return {
        "version": spec.version,
        "description": spec.description,
        "device": spec.device.value,
        "unit": spec.unit,
        "max_batch_items": spec.max_batch_items,
        "max_batch_units": spec.max_batch_units,
        "execution_timeout_s": spec.execution_timeout_s,
        "input_schema": spec.input_schema,
        "output_schema": spec.output_schema,
    }
