"""The output and error file of a batch: written side by side, kept by the statement that ends the batch."""

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from app.broker.ring import Ringer
from app.db import batch_steps
from app.db.batch_steps import Row
from app.db.batch_work import Lease
from app.db.files import NewFile
from app.domain.ids import format_id
from app.domain.stages import DeliveryBell
from app.intake.file_request import Purpose
from app.intake.upload import Upload, uploading
from app.intake.view import BATCH
from app.observability import logs, metrics
from workers.bulk.desk import Desk

log = logs.get_logger()


class Files:
    """A file is begun with its first line. What is not kept when the block ends is removed."""

    def __init__(self, desk: Desk, batch: Any) -> None:
        self._desk = desk
        self._batch = batch
        self._stack = ExitStack()
        self._output: Upload | None = None
        self._error: Upload | None = None

    def __enter__(self) -> "Files":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def output(self, line: bytes) -> None:
        """Add a line of what succeeded."""
        if self._output is None:
            self._output = self._begin()
        self._output.write(line)

    def error(self, line: bytes) -> None:
        """Add a line of what did not."""
        if self._error is None:
            self._error = self._begin()
        self._error.write(line)

    def end(
        self,
        lease: Lease,
        status: str,
        *,
        invalid: int | None = None,
        estimate: dict[str, Any] | None = None,
        errors: Iterable[Row] = (),
    ) -> None:
        """Keep the files and end the batch, in one transaction; then ring for those who are told of it."""
        output = self._finish(self._output, "output")
        error = self._finish(self._error, "error")
        ended = batch_steps.ended(
            self._desk.engine,
            lease,
            status,
            output=output,
            error=error,
            invalid=invalid,
            estimate=estimate,
            errors=errors,
        )
        for upload in (self._output, self._error):
            if upload is not None:
                upload.was_kept(Purpose.BATCH_OUTPUT)
        metrics.BATCHES_ENDED.labels(ended.status).inc()
        log.info("bulk.ended", batch=str(self._batch.id), status=ended.status)
        if ended.told:
            _ring(self._desk.ringer)

    def _begin(self) -> Upload:
        desk = self._desk
        return self._stack.enter_context(uploading(desk.engine, desk.storage, self._batch.tenant_id))

    def _finish(self, upload: Upload | None, kind: str) -> NewFile | None:
        if upload is None:
            return None
        return upload.finish(
            Purpose.BATCH_OUTPUT,
            f"{format_id(BATCH, self._batch.id)}_{kind}.jsonl",
            batch_id=self._batch.id,
            expires_after_s=self._batch.output_expires_after_s,
        )


def _ring(ringer: Ringer) -> None:
    ringer.ring(DeliveryBell())
