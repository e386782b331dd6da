"""Batches: made, looked at, cancelled, run again. Whatever becomes of one is the clerk's work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from app.broker.ring import Ringer
from app.db import batches as sql
from app.db import files as files_sql
from app.db.accept import Repeated
from app.db.batches import BatchFilter, NewBatch
from app.db.engine import Engine
from app.domain.batch_states import ENDED
from app.domain.ids import InvalidId, new_batch_uuid, parse_id
from app.domain.stages import BatchBell
from app.errors import Conflict, FieldError, NotFound, RequestError
from app.intake import bells
from app.intake.authenticate import Principal
from app.intake.batch_request import BatchRequest, window_s
from app.intake.file_request import Purpose
from app.intake.file_view import FILE
from app.intake.files import over_quota
from app.intake.idempotency import Once, in_flight, reused
from app.intake.shapes import invalid
from app.intake.upload import remove, uploading
from app.intake.view import BATCH
from app.observability import metrics, tracing
from app.settings import Files as Limits
from app.storage import Storage

ENDPOINT = "batches"
"""Whose idempotency keys these are."""
RETRY = "batches.retry"

_INLINE = "requests.jsonl"


@dataclass(frozen=True, slots=True)
class Made:
    """A batch that was asked for. `replayed`: an earlier request with the same key made it."""

    row: Any
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Batches:
    """Makes batches. One per request."""

    engine: Engine
    storage: Storage
    ringer: Ringer
    limits: Limits
    principal: Principal

    def create(self, asked: BatchRequest, once: Once | None) -> Made:
        """A new batch; `once` makes repeating safe.

        Raises `NotFound` or `Invalid` for a file that can't be its input, `TooLarge` if there is no room for
        one, `Invalid` if the key was used for something else, and `Conflict` while its first request is still
        being committed.
        """
        first = self._first(once)
        if first is not None:
            return first
        if asked.input_file_id is not None:
            return self._write(asked, self._input(asked.input_file_id), once)
        with uploading(self.engine, self.storage, self.principal.tenant_id) as upload:
            for line in _lines(asked.requests or ()):
                upload.write(line)
            file = upload.keep(Purpose.BATCH, _INLINE, quota=self.limits.quota_bytes)
        if file is None:
            raise over_quota(self.limits)
        assert not isinstance(file, Repeated)
        # Nobody was told of this file: it goes, unless a batch reads it or might.
        try:
            made = self._write(asked, file.id, once)
        except RequestError:
            self._drop(file.id)
            raise
        if made.replayed:
            self._drop(file.id)
        return made

    def retry(self, batch_id: UUID, once: Once | None) -> Made:
        """A new batch of the jobs that did not succeed in this one, run as it was.

        Raises `NotFound`, `Conflict` while it runs or if nothing failed, and what `create` does for the key.
        """
        first = self._first(once)
        if first is not None:
            return first
        row = fetch(self.engine, self.principal, batch_id)
        if row.status not in ENDED:
            raise Conflict("batch_not_ended", "the batch has not ended; wait for it, or cancel it first")
        if not row.failed + row.canceled + row.expired:
            raise Conflict("nothing_to_retry", "no job of the batch failed, expired or was canceled")
        return self._insert(
            NewBatch(
                id=new_batch_uuid(),
                tenant_id=row.tenant_id,
                endpoint=row.endpoint,
                completion_window=row.completion_window,
                window_s=window_s(row.completion_window),
                retry_of=row.id,
                on_invalid=row.on_invalid,
                webhook=row.webhook,
                output_expires_after_s=row.output_expires_after_s,
                metadata=row.metadata,
            ),
            once,
        )

    def _write(self, asked: BatchRequest, file_id: UUID, once: Once | None) -> Made:
        kept = asked.output_expires_after
        return self._insert(
            NewBatch(
                id=new_batch_uuid(),
                tenant_id=self.principal.tenant_id,
                endpoint=asked.endpoint,
                completion_window=asked.completion_window,
                window_s=window_s(asked.completion_window),
                input_file_id=file_id,
                on_invalid=asked.on_invalid or "fail",
                dry_run=bool(asked.dry_run),
                webhook=asked.webhook,
                output_expires_after_s=kept.seconds if kept else None,
                metadata=asked.metadata or {},
            ),
            once,
        )

    def _insert(self, new: NewBatch, once: Once | None) -> Made:
        with in_flight(once):
            written = sql.insert(self.engine, new, once)
        if isinstance(written, Repeated):
            return self._replay(written)
        tracing.accepted(new.id, "batch")
        bells.ring(self.ringer, BatchBell())
        return Made(written)

    def _input(self, name: str) -> UUID:
        try:
            row = files_sql.get(self.engine, self.principal.tenant_id, parse_id(FILE, name))
        except InvalidId:
            row = None
        where = "/input_file_id"
        if row is None:
            missing = FieldError(where, "file_not_found", "must be the id of a file of yours")
            raise NotFound("file_not_found", f"{where}: there is no such file", [missing])
        if row.purpose != Purpose.BATCH:
            raise invalid([FieldError(where, "not_allowed", f"must be a file of purpose {Purpose.BATCH}")])
        file_id: UUID = row.id
        return file_id

    def _drop(self, file_id: UUID) -> None:
        key = files_sql.delete(self.engine, self.principal.tenant_id, file_id)
        if key is not None:
            remove(self.engine, self.storage, key)

    def _first(self, once: Once | None) -> Made | None:
        if once is None:
            return None
        written = sql.repeated(self.engine, self.principal.tenant_id, once)
        return None if written is None else self._replay(written)

    def _replay(self, written: Repeated) -> Made:
        if not written.same:
            raise reused()
        metrics.ACCEPT_REPLAYS.inc()
        return Made(fetch(self.engine, self.principal, written.resource_id), replayed=True)


def parse_batch_id(text: str) -> UUID:
    """The id in a URL. Raises `NotFound`: what is no id names no batch."""
    try:
        return parse_id(BATCH, text)
    except InvalidId:
        raise _not_found() from None


def fetch(engine: Engine, principal: Principal, batch_id: UUID) -> Any:
    """The batch's row as `app.db.batches.get` gives it. Raises `NotFound`."""
    row = sql.get(engine, principal.tenant_id, batch_id)
    if row is None:
        raise _not_found()
    return row


def list_page(engine: Engine, where: BatchFilter) -> Sequence[Any]:
    """Rows of the tenant's batches; one more than the limit if there are more."""
    return sql.list_page(engine, where)


def cancel(engine: Engine, ringer: Ringer, principal: Principal, batch_id: UUID) -> Any:
    """Ask for the batch's end. One whose jobs have all ended stays as it is. Returns its row.

    Raises `NotFound`.
    """
    if sql.ask_cancel(engine, principal.tenant_id, batch_id):
        bells.ring(ringer, BatchBell())
    return fetch(engine, principal, batch_id)


def _lines(requests: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    return (orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE) for request in requests)


def _not_found() -> NotFound:
    """The same for a batch that never was and for one of somebody else."""
    return NotFound("batch_not_found", "there is no such batch")
