"""A file as clients see it, in OpenAI's shape: times are Unix seconds."""

from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.ids import format_id

FILE = "file"


def file(row: Any) -> dict[str, Any]:
    """The file without its content. `status` is always the same: there is no file before it is whole."""
    return {
        "id": format_id(FILE, row.id),
        "object": "file",
        "bytes": row.bytes,
        "created_at": _seconds(row.created_at),
        "expires_at": None if row.expires_at is None else _seconds(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": row.sha256.hex(),
    }


def deleted_file(file_id: UUID) -> dict[str, Any]:
    """What is left of a file that was removed."""
    return {"id": format_id(FILE, file_id), "object": "file", "deleted": True}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
