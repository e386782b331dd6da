"""What every step of a batch works with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.broker.ring import Ringer
from app.db.engine import Engine
from app.domain.egress import EgressPolicy
from app.errors import NotFound
from app.intake import files
from app.intake.catalogue import Catalogue
from app.settings import Settings
from app.storage import Storage
from workers.notify import Notifier


class Leave(Exception):
    """The clerk is to stop: what this step did and did not write yet is done anew by the next one."""


GONE = "file_not_found", "the input file was deleted, or has expired"
"""The code and the message of a `FileGone`."""


class FileGone(Exception):
    """The batch's input file was deleted, or has expired."""


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

    def input_file(self, tenant_id: int, file_id: UUID) -> Any:
        """The file's row. Raises `FileGone`."""
        try:
            return files.fetch(self.engine, tenant_id, file_id)
        except NotFound:
            raise FileGone from None
