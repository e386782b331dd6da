"""What the server described: attributes for what is promised, `raw` for all that it sent."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


class Record:
    """Base of all that has an id. Equal if they are of one kind and have one id."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = dict(raw)

    @property
    def id(self) -> str:
        """What it is called in the API."""
        return str(self._raw.get("id", ""))

    @property
    def raw(self) -> dict[str, Any]:
        """The JSON as the server sent it last, fields this version knows nothing of included."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Record) and other.id == self.id

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def _moment(self, name: str) -> datetime | None:
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        return datetime.fromisoformat(value)
