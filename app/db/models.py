"""The SQL of the model registry. Versions are insert-only; which one is current is one small row."""

from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row, text

from app.db import audit
from app.db.engine import connect, transaction
from app.domain.lanes import Device
from app.domain.model import ModelSpec, ModelVersion

VERSION_COLUMNS = """v.id, v.model, v.version, v.source, v.source_sha256, v.device, v.unit,
           v.max_batch_items, v.max_batch_units, v.execution_timeout_s, v.memory_mb,
           v.input_schema, v.output_schema, v.description, v.variant"""

_INSERT = """
        INSERT INTO model_versions (model, version, source, source_sha256, device, unit,
                                    max_batch_items, max_batch_units, execution_timeout_s,
                                    memory_mb, input_schema, output_schema, description, variant)
        VALUES (:model, :version, :source, :source_sha256, :device, :unit, :max_batch_items,
                :max_batch_units, :execution_timeout_s, :memory_mb,
                CAST(:input_schema AS json), CAST(:output_schema AS json), :description, :variant)
        ON CONFLICT (model, version) DO NOTHING
        RETURNING id"""
_ADD = text(_INSERT)
_REGISTER = text(
    f"""
    WITH inserted AS ({_INSERT}
    )
    INSERT INTO models (name, current_version_id) SELECT :model, id FROM inserted
    ON CONFLICT (name) DO UPDATE
       SET current_version_id = excluded.current_version_id, updated_at = now()
    RETURNING current_version_id
    """
)
_FIND = text(
    f"""
    SELECT {VERSION_COLUMNS}
      FROM model_versions v
     WHERE v.model = :model
       AND CASE WHEN CAST(:version AS text) IS NULL
                THEN v.id = (SELECT current_version_id FROM models WHERE name = :model)
                ELSE v.version = :version END
    """
)
_REPLACE = text(
    """
    UPDATE model_versions
       SET source = :source, source_sha256 = :source_sha256, device = :device, unit = :unit,
           max_batch_items = :max_batch_items, max_batch_units = :max_batch_units,
           execution_timeout_s = :execution_timeout_s, memory_mb = :memory_mb,
           input_schema = CAST(:input_schema AS json), output_schema = CAST(:output_schema AS json),
           description = :description, variant = :variant
     WHERE id = :id
    """
)
_MAKE_CURRENT = text(
    """
    UPDATE models SET current_version_id = :id, updated_at = now()
     WHERE name = :model AND current_version_id <> :id
    """
)
_BY_ID = text(f"SELECT {VERSION_COLUMNS} FROM model_versions v WHERE v.id = :id")
_LIST = text(
    f"""
    SELECT {VERSION_COLUMNS}, v.created_at, m.current_version_id = v.id AS current
      FROM model_versions v JOIN models m ON m.name = v.model
     ORDER BY v.model, v.id DESC
    """
)


def register(engine: Engine, spec: ModelSpec, *, actor: str) -> bool:
    """Insert the version and make it the current one. False, and nothing changed, if it exists already."""
    with transaction(engine) as connection:
        made = connection.execute(_REGISTER, _parameters(spec)).one_or_none() is not None
        if made:
            _note(connection, actor, spec)
    return made


def add(engine: Engine, spec: ModelSpec, *, actor: str) -> bool:
    """Insert one more version of a known model; which one is current stays. False if it exists already."""
    with transaction(engine) as connection:
        made = connection.execute(_ADD, _parameters(spec)).one_or_none() is not None
        if made:
            _note(connection, actor, spec, current=False)
    return made


def replace(engine: Engine, version_id: int, spec: ModelSpec, *, actor: str) -> None:
    """Put other code behind a version, and make it the current one. For development stacks only: see
    `register_source`.
    """
    with transaction(engine) as connection:
        connection.execute(_REPLACE, {**_parameters(spec), "id": version_id})
        connection.execute(_MAKE_CURRENT, {"model": spec.name, "id": version_id})
        _note(connection, actor, spec, replace=True)


def make_current(engine: Engine, version: ModelVersion, *, actor: str) -> None:
    """Requests that name no version get this one from now on."""
    spec = version.spec
    with transaction(engine) as connection:
        changed = connection.execute(_MAKE_CURRENT, {"model": spec.name, "id": version.id})
        if changed.rowcount:
            audit.write(connection, actor, "models.use", f"{spec.name}@{spec.version}")


def find(engine: Engine, model: str, version: str | None) -> ModelVersion | None:
    """The named version, or the current one when `version` is None."""
    with connect(engine) as connection:
        row = connection.execute(_FIND, {"model": model, "version": version}).one_or_none()
    return version_from_row(row) if row else None


def by_id(engine: Engine, version_id: int) -> ModelVersion | None:
    """The version with this row id."""
    with connect(engine) as connection:
        row = connection.execute(_BY_ID, {"id": version_id}).one_or_none()
    return version_from_row(row) if row else None


def list_all(engine: Engine) -> list[tuple[ModelVersion, Any]]:
    """Every version with its row (`created_at`, `current`), by model, newest first."""
    with connect(engine) as connection:
        return [(version_from_row(row), row) for row in connection.execute(_LIST)]


def version_from_row(row: Row[Any]) -> ModelVersion:
    """A row that has `VERSION_COLUMNS`, as the domain's type."""
    return ModelVersion(
        id=row.id,
        spec=ModelSpec(
            name=row.model,
            version=row.version,
            source=row.source,
            source_sha256=row.source_sha256,
            device=Device(row.device),
            unit=row.unit,
            max_batch_items=row.max_batch_items,
            max_batch_units=row.max_batch_units,
            execution_timeout_s=row.execution_timeout_s,
            memory_mb=row.memory_mb,
            input_schema=row.input_schema,
            output_schema=row.output_schema,
            description=row.description,
            variant=row.variant,
        ),
    )


def _note(connection: Connection, actor: str, spec: ModelSpec, **details: bool) -> None:
    subject = f"{spec.name}@{spec.version}"
    audit.write(connection, actor, "models.register", subject, source=spec.source, **details)


def _parameters(spec: ModelSpec) -> dict[str, Any]:
    return {
        "model": spec.name,
        "version": spec.version,
        "source": spec.source,
        "source_sha256": spec.source_sha256,
        "device": spec.device.value,
        "unit": spec.unit,
        "max_batch_items": spec.max_batch_items,
        "max_batch_units": spec.max_batch_units,
        "execution_timeout_s": spec.execution_timeout_s,
        "memory_mb": spec.memory_mb,
        "input_schema": orjson.dumps(spec.input_schema).decode(),
        "output_schema": orjson.dumps(spec.output_schema).decode(),
        "description": spec.description,
        "variant": spec.variant,
    }
