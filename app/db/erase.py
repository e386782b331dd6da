"""The SQL of erase: input and output go, the record stays."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from app.db import files
from app.db.engine import transaction
from app.domain.ids import InvalidId, parse_id

_INPUT = text(
    """
    UPDATE jobs SET input = NULL, metadata = '{}', erased_at = coalesce(erased_at, now())
     WHERE id = :id AND tenant_id = :tenant_id
       AND EXISTS (SELECT FROM job_results r WHERE r.job_id = :id)
    """
)
_FIND_OUTPUT = text("SELECT output FROM job_results WHERE job_id = :id FOR UPDATE")
_OUTPUT = text(
    """
    UPDATE job_results SET output = NULL,
           error = CASE WHEN error IS NULL THEN NULL
                        ELSE json_build_object('code', error ->> 'code', 'message', 'erased') END
     WHERE job_id = :id
    """
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What a finished job held is gone. `key`: of the object that had its output, which is stray now."""

    key: str | None = None


def erase(engine: Engine, tenant_id: int, job_id: UUID) -> Erased | None:
    """Erase what a finished job held, with the file of its output. None if it has not finished (or is not
    this tenant's).
    """
    with transaction(engine) as connection:
        parameters = {"id": job_id, "tenant_id": tenant_id}
        if connection.execute(_INPUT, parameters).rowcount == 0:
            return None
        output = connection.execute(_FIND_OUTPUT, parameters).scalar_one_or_none()
        connection.execute(_OUTPUT, parameters)
        file_id = _file_of(output)
        if file_id is None:
            return Erased()
        return Erased(files.delete_output(connection, tenant_id, file_id, job_id))


def _file_of(output: Any) -> UUID | None:
    """The file that an output names if it is a stub; so might a model's own output."""
    try:
        return parse_id("file", output["file_id"]) if isinstance(output, dict) else None
    except (KeyError, AttributeError, InvalidId):
        return None
