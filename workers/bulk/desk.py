"""What every step of a batch works with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.broker.ring import Ringer
from app.db.engine import Engine
from app.domain.egress import EgressPolicy
from app.errors import NotFound, Unavailable
from app.intake import files
from app.intake.catalogue import Catalogue
from app.settings import Settings
from app.storage import Storage
from workers.notify import Notifier


class Leave(Exception):
    """The clerk is to stop: what this step did and did not write yet is done anew by the next one."""


PATIENCE = timedelta(days=1)
"""How long after its time a batch still waits for a storage that does not give its file."""


class FileGone(Exception):
    """The batch's input file is not to be had any more; `message` says why."""

    code = "file_not_found"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class Desk:
    """The parts of a clerk, and its clock. `leaving` says that it is to stop."""

    engine: Engine
    ringer: Ringer
    notifier: Notifier
    storage: Storage
    catalogue: Catalogue
    egress: EgressPolicy
    settings: Settings
    clock: Callable[[], float]
    leaving: Callable[[], bool]

    def slice_ends(self) -> float:
        """By when a step that can go on later should end."""
        return self.clock() + self.settings.worker.slice_s

    def check_leaving(self) -> None:
        """Raise `Leave` if the clerk is to stop."""
        if self.leaving():
            raise Leave

    def content(self, batch: Any, start: int = 0) -> Iterator[bytes]:
        """The bytes of the batch's input file, from `start`. Raises `FileGone`, `Unavailable`."""
        row = self._input_file(batch)
        try:
            yield from files.content(self.storage, row, start)
        except Unavailable:
            # Deleted while it was read?
            self._input_file(batch)
            if batch.now > batch.expires_at + PATIENCE:
                raise FileGone("the storage did not give the input file before the batch expired") from None
            raise

    def _input_file(self, batch: Any) -> Any:
        try:
            return files.fetch(self.engine, batch.tenant_id, batch.input_file_id)
        except NotFound:
            raise FileGone("the input file was deleted, or has expired") from None
