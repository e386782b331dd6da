"""Wrong lines while a file is validated: in memory while they are few, then in a temporary file."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson

from app.db.batch_steps import Row
from app.intake.batch_line import WrongLine

_IN_MEMORY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong line as `app.intake.batch_results.wrong_line` reads it."""

    line: int
    code: str
    message: str
    param: str | None
    custom_id: str | None
    after: int


class Spill:
    """Wrong lines in the order of the file. Close it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - see close
        self.count = 0

    def add(self, line: int, wrong: WrongLine, after: int) -> None:
        """One more. `after` is the number of the job before it."""
        row = (line, wrong.code, wrong.message, wrong.param, wrong.custom_id, after)
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self.count += 1

    def __iter__(self) -> Iterator[Wrong]:
        for row in self.rows():
            yield Wrong(*row)

    def rows(self) -> Iterator[Row]:
        """As they are kept in the database."""
        self._file.seek(0)
        for text in self._file:
            row: list[Any] = orjson.loads(text)
            yield tuple(row)

    def close(self) -> None:
        self._file.close()
