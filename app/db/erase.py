"""The SQL of erase: input and output go, the record stays."""

from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import transaction

_INPUT = text(
    """
    UPDATE jobs SET input = NULL, metadata = '{}', erased_at = coalesce(erased_at, now())
     WHERE id = :id AND tenant_id = :tenant_id
       AND EXISTS (SELECT FROM job_results r WHERE r.job_id = :id)
    """
)
_OUTPUT = text(
    """
    UPDATE job_results SET output = NULL,
           error = CASE WHEN error IS NULL THEN NULL
                        ELSE json_build_object('code', error ->> 'code', 'message', 'erased') END
     WHERE job_id = :id
    """
)


def erase(engine: Engine, tenant_id: int, job_id: UUID) -> bool:
    """Erase what a finished job held. False if it has not finished (or is not this tenant's)."""
    with transaction(engine) as connection:
        parameters = {"id": job_id, "tenant_id": tenant_id}
        if connection.execute(_INPUT, parameters).rowcount == 0:
            return False
        connection.execute(_OUTPUT, parameters)
        return True
