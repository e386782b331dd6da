"""Registering models: operators only, by command. A version never changes once it is registered."""

import dataclasses

from app.db import models
from app.db.engine import Engine, make_engine
from app.domain.model import ModelSpec
from app.domain.variants import Variant, tuned_version
from app.errors import Conflict
from app.intake.source import spec_of
from app.settings import Settings


def add_variant(engine: Engine, spec: ModelSpec, variant: Variant, *, actor: str) -> ModelSpec:
    """Register `spec` computed as `variant` as a version of its own; which version is current stays.

    The same again changes nothing. Raises `Conflict` if its name is taken by something else.
    """
    tuned = dataclasses.replace(spec, version=tuned_version(spec.version, variant), variant=variant.value)
    if not models.add(engine, tuned, actor=actor):
        known = models.find(engine, tuned.name, tuned.version)
        if known is None or known.spec != tuned:
            raise Conflict(
                "version_exists", f"{tuned.name}@{tuned.version} is registered with other code or limits"
            )
    return tuned


def register_source(settings: Settings, source: str, *, replace: bool = False, actor: str) -> tuple[str, str]:
    """Register `FILE.py:CLASS` (or `package.module:CLASS`) and make it the model's current version.

    Returns (model, version). The same code again changes nothing. Other code under a version that
    exists raises `Conflict`, unless `replace` (for development: results of both then share a name).
    """
    spec = spec_of(source)
    engine = make_engine(settings.database_url, application_name="headrace register")
    try:
        if not models.register(engine, spec, actor=actor):
            known = models.find(engine, spec.name, spec.version)
            assert known is not None
            if known.spec == spec:
                models.make_current(engine, known, actor=actor)
            elif replace:
                models.replace(engine, known.id, spec, actor=actor)
            else:
                raise Conflict(
                    "version_exists",
                    f"{spec.name}@{spec.version} is registered with other code or limits; "
                    "give the class a new `version`",
                )
        return spec.name, spec.version
    finally:
        engine.dispose()
