"""A notice for development: a file that exists."""

from pathlib import Path

import orjson

from workers.spot.notice import Kind, Notice, Unreadable

WARNING_S = 120.0


class Local:
    """See `Provider`. The file is empty, or holds `{"left_s": seconds, "pools": [names]}`, both optional."""

    def __init__(self, file: Path, pool: str) -> None:
        self._file = file
        self._pool = pool

    def look(self) -> Notice | None:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"the file can't be read: {type(error).__name__}") from None
        try:
            told = orjson.loads(text) if text.strip() else {}
            left_s = float(told.get("left_s", WARNING_S))
            pools = told.get("pools")
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
            raise Unreadable("the file holds no JSON object with left_s and pools") from None
        if pools is not None and (not isinstance(pools, list) or self._pool not in pools):
            return None
        return Notice(Kind.INTERRUPTION, left_s, "file")

    def left(self) -> None:
        """Nobody asks."""
