"""The SQL of the audit log: who did what to tenants, keys, models and workers, and when."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, text

from app.db.engine import connect

_NOTE = text(
    """
    INSERT INTO audit_log (actor, action, subject, details)
    VALUES (:actor, :action, :subject, CAST(:details AS jsonb))
    """
)
_LIST = text(
    """
    SELECT id, at, actor, action, subject, details FROM audit_log
     WHERE (CAST(:action AS text) IS NULL OR starts_with(action, :action))
       AND (CAST(:before AS bigint) IS NULL OR id < :before)
     ORDER BY id DESC LIMIT :limit
    """
)

_LAST = text(
    """
    SELECT details FROM audit_log WHERE action = :action AND subject = :subject ORDER BY id DESC LIMIT 1
    """
)


def write(connection: Connection, actor: str, action: str, subject: str, **details: Any) -> None:
    """Add a line, in the transaction of what it tells of: there is one if and only if it was done.
    `actor` is `key:ID` or `cli:USER@HOST`; details hold no secret.
    """
    connection.execute(
        _NOTE,
        {"actor": actor, "action": action, "subject": subject, "details": orjson.dumps(details).decode()},
    )


def last(connection: Connection, action: str, subject: str) -> dict[str, Any] | None:
    """The details of the newest such line about `subject`, or None: what was done is on record, so this is
    also whether it was. Reads the log backwards, so it is for what operators do.
    """
    row = connection.execute(_LAST, {"action": action, "subject": subject}).one_or_none()
    return dict(row.details) if row else None


def latest(
    engine: Engine, limit: int, action: str | None = None, before: int | None = None
) -> Sequence[dict[str, Any]]:
    """The newest lines, newest first; only actions that begin with `action`, if it is given.
    `before`: only lines with a smaller id.
    """
    with connect(engine) as connection:
        rows = (
            connection.execute(_LIST, {"limit": limit, "action": action, "before": before}).mappings().all()
        )
    return [dict(row) for row in rows]
