"""Wrong lines while a file is validated: in memory while they are few, then in a temporary file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import orjson

from app.db.batch_steps import Row
from app.errors import NoRoom
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
    """Wrong lines in the order of the file. Close it. Each use may raise `NoRoom`."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - see close
        self.count = 0

    def add(self, line: int, wrong: WrongLine, after: int) -> None:
        """One more. `after` is the number of the job before it."""
        row = (line, wrong.code, wrong.message, wrong.param, wrong.custom_id, after)
        with _failures_told():
            self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self.count += 1

    def __iter__(self) -> Iterator[Wrong]:
        for row in self.rows():
            yield Wrong(*row)

    def rows(self) -> Iterator[Row]:
        """As they are kept in the database."""
        with _failures_told():
            self._file.seek(0)
        for text in self._file:
            row: list[Any] = orjson.loads(text)
            yield tuple(row)

    def close(self) -> None:
        # What was not written yet is written now, for nobody.
        with suppress(OSError):
            self._file.close()


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoom(f"the clerk can't write temporary files: {error.strerror}") from error
