"""`client.batches`: many jobs from one file, and one file of results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Unpack

from headrace import bulk
from headrace.arguments import given
from headrace.batch import Batch
from headrace.batch_api import BatchApi
from headrace.batch_result import BatchResult
from headrace.clock import rfc3339
from headrace.errors import BatchCancelled, BatchError, BatchExpired, BatchFailed
from headrace.files import Files
from headrace.lines import DEFAULT_ENDPOINT
from headrace.types import BatchOptions, BatchStatus, Json, OnInvalid

_ENDED_EARLY: dict[str, type[BatchError]] = {"cancelled": BatchCancelled, "expired": BatchExpired}


class Batches:
    """Run files, find batches, and act on them by id."""

    def __init__(self, api: BatchApi, files: Files) -> None:
        self._api = api
        self._files = files

    def run(
        self,
        source: bulk.Source,
        *,
        model: str | None = None,
        timeout: float | None = None,
        on_progress: Callable[[Batch], object] | None = None,
        **options: Unpack[BatchOptions],
    ) -> Iterator[BatchResult]:
        """Run a whole file, wait for it, and return an iterator of its results, in the order of the file.

        `source` is a path, a file open for reading in binary, or an iterable. With a `model`, each line
        of a file and each item of an iterable is one input, as JSON: it is named by its own `custom_id`,
        which is taken out of it, or else by its number, from "1". Without, they are requests as OpenAI's
        batches have them: `{"custom_id", "method", "url", "body"}`. Files may be larger than the memory.

        Run again within a day, after a crash of this process for instance, the same content with the
        same options finds the batch that it made, and goes on with that: nothing is run twice. Another
        `idempotency_key` makes another batch. Nor is one gone on with that failed, expired or was cancelled.

        Each result is to be asked whether it is `ok`: one wrong line does no harm to the others. Raises
        `BatchFailed` with the first wrong lines if the file was refused, so that nothing ran;
        `BatchWaitTimeout` after `timeout` seconds; and, after the last result, `BatchCancelled` or
        `BatchExpired` if not all of it was run.

        >>> results = client.batches.run([{"text": "a"}, {"text": "b"}], model="echo")
        >>> [(result.custom_id, result.output) for result in results]
        [('1', {'text': 'a'}), ('2', {'text': 'b'})]
        """
        if options.get("dry_run"):
            raise TypeError("a dry run has no results: submit() it, wait(), and look at its `estimate`")
        batch = self.submit(source, model=model, **options).wait(timeout, on_progress)
        if batch.status == "failed":
            raise BatchFailed(batch)
        return _results(batch)

    def submit(
        self,
        source: bulk.Source,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        completion_window: str | None = None,
        metadata: Mapping[str, str] | None = None,
        on_invalid: OnInvalid | None = None,
        dry_run: bool | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: Callable[[int, int], object] | None = None,
    ) -> Batch:
        """What `run` does before it waits: upload the source's lines, and make a batch of them or find
        the one that it made.

        `endpoint` is what the lines are for: by default what the first line says, or `/v1/jobs`. With
        `on_invalid="skip"` wrong lines are reported and the others are run. With `dry_run` the file is
        only validated; see `Batch.estimate`. `on_upload` is called with the bytes sent and all there are.
        The uploaded file is kept for 30 days.
        """
        options = given(
            completion_window=completion_window or "24h",
            metadata=None if metadata is None else dict(metadata),
            on_invalid=on_invalid,
            dry_run=dry_run,
            webhook=webhook,
        )
        return bulk.start(
            self._api,
            self._files,
            source,
            model=model,
            endpoint=endpoint,
            options=options,
            run_key=idempotency_key,
            on_upload=on_upload,
        )

    def create(
        self,
        input_file_id: str | None = None,
        *,
        requests: Sequence[Mapping[str, Json]] | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        on_invalid: OnInvalid | None = None,
        dry_run: bool | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Make a batch of a file that was uploaded, or of a few `requests` given here.

        Once this returns, the batch is stored and is not lost; its file is validated after. Raises
        `NotFoundError` if there is no such file, or `ValidationError` that names each wrong field.
        """
        if (input_file_id is None) == (requests is None):
            raise ValueError("give either input_file_id or requests")
        body = given(
            input_file_id=input_file_id,
            requests=None if requests is None else [dict(one) for one in requests],
            endpoint=endpoint,
            completion_window=completion_window,
            metadata=None if metadata is None else dict(metadata),
            on_invalid=on_invalid,
            dry_run=dry_run,
            webhook=webhook,
        )
        return Batch(self._api.create(body, idempotency_key).data, self._api)

    def get(self, batch_id: str) -> Batch:
        """The batch with this id. Raises `NotFoundError`, also for another tenant's."""
        return Batch(self._api.fetch(batch_id), self._api)

    def list(
        self,
        *,
        status: BatchStatus | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Batch]:
        """Batches that match every filter, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the id to go on after.
        """
        params = {f"metadata[{key}]": value for key, value in (metadata or {}).items()} | given(
            status=status,
            created_after=rfc3339(created_after),
            created_before=rfc3339(created_before),
            after=after,
        )
        return (Batch(raw, self._api) for raw in self._api.list(params, limit))

    def cancel(self, batch_id: str) -> Batch:
        """Ask for an end: what is queued ends at once, what is running within one micro-batch. Safe to
        repeat."""
        return Batch(self._api.cancel(batch_id), self._api)

    def retry(self, batch_id: str, *, idempotency_key: str | None = None) -> Batch:
        """Run what did not succeed again, as a new batch. Raises `ConflictError` while it has not ended."""
        return Batch(self._api.retry(batch_id, idempotency_key), self._api)

    def results(self, batch_id: str) -> Iterator[BatchResult]:
        """What became of each line that has ended by now, in the order of the file, read as it comes."""
        return map(BatchResult, self._api.results(batch_id))

    def errors(self, batch_id: str) -> Iterator[BatchResult]:
        """Those lines that did not succeed: wrong ones, and those whose job has no output."""
        return self.get(batch_id).errors()


def _results(batch: Batch) -> Iterator[BatchResult]:
    yield from batch.results()
    if batch.status in _ENDED_EARLY:
        raise _ENDED_EARLY[batch.status](batch)
