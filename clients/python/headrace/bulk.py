"""Running something in bulk, so that doing it again after a crash finds the same batch and goes on."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any, BinaryIO, TypeGuard, cast

from headrace import lines
from headrace.batch import Batch
from headrace.batch_api import BatchApi
from headrace.errors import ConflictError, NotFoundError
from headrace.files import File, Files
from headrace.spool import rewindable, written
from headrace.types import Json

_Readable = str | os.PathLike[str] | BinaryIO
Source = _Readable | Iterable[Json]

# Long enough to run its failures again, and not for ever.
_KEEP_INPUT_S = 30 * 86_400
_CHUNK_BYTES = 1 << 20
# Whatever the source is called: the same content under another name, or from a pipe, is the same request.
_NAME = "inputs.jsonl"
_ENDED_BADLY = ("failed", "expired", "cancelling", "cancelled")


def start(
    api: BatchApi,
    files: Files,
    source: Source,
    *,
    model: str | None,
    endpoint: str | None,
    options: Mapping[str, Any],
    run_key: str | None,
    on_upload: Callable[[int, int], object] | None,
) -> Batch:
    """Upload the source's lines and make a batch of them, unless both was done already: then find it.

    Every key is made of the SHA-256 of the lines and the options, and of `run_key`. A batch that ended
    without running all of its lines is not gone on with: the next one is made.
    """
    with _as_file(source, model, endpoint) as (file, for_endpoint):
        wanted = {"endpoint": for_endpoint, **options}
        key = _key(file, wanted, run_key)
        uploaded = _upload(files, file, key, on_upload)
    body = {"input_file_id": uploaded.id, **wanted}
    for number in count():
        answer = api.create(body, f"{key}-{uploaded.id}-{number}")
        batch = Batch(answer.data, api)
        if answer.headers.get("Idempotent-Replayed") != "true":
            return batch
        try:
            # A replayed answer shows how it was at first.
            batch.refresh()
        except NotFoundError:
            continue
        if batch.status not in _ENDED_BADLY:
            return batch
    raise AssertionError


def _upload(files: Files, file: BinaryIO, key: str, on_upload: Callable[[int, int], object] | None) -> File:
    for number in count():
        file.seek(0)
        try:
            return files.create(
                file,
                filename=_NAME,
                expires_after=_KEEP_INPUT_S,
                idempotency_key=f"{key}-file-{number}",
                on_progress=on_upload,
            )
        except ConflictError as error:
            # Somebody deleted what an earlier run uploaded.
            if error.code != "file_gone":
                raise
    raise AssertionError


@contextmanager
def _as_file(source: Source, model: str | None, endpoint: str | None) -> Iterator[tuple[BinaryIO, str]]:
    """(a file of lines that stands at its beginning, their endpoint)."""
    if not _is_readable(source):
        values = lines.of_values(cast(Iterable[Json], source), model, endpoint or lines.DEFAULT_ENDPOINT)
        with written(values) as file:
            for_endpoint = endpoint or _endpoint_of(lines.first_of(file))
            file.seek(0)
            yield file, for_endpoint
        return
    with rewindable(source) as (opened, begin, _, _name):
        opened.seek(begin)
        first = lines.first_of(opened)
        opened.seek(begin)
        _check(first, model)
        if model is None:
            with written(opened) if begin else nullcontext(opened) as file:
                yield file, endpoint or _endpoint_of(first)
            return
        for_endpoint = endpoint or lines.DEFAULT_ENDPOINT
        with written(lines.of_file(opened, model, for_endpoint)) as file:
            yield file, for_endpoint


def _is_readable(source: Source) -> TypeGuard[_Readable]:
    if isinstance(source, io.TextIOBase):
        raise TypeError('a file must be open for reading in binary: open(path, "rb")')
    if isinstance(source, Mapping | bytes | bytearray):
        raise TypeError("give a path, a file that is open for reading in binary, or an iterable of inputs")
    return isinstance(source, str | os.PathLike) or hasattr(source, "read")


def _check(first: Mapping[str, Any], model: str | None) -> None:
    if model is None and first and not lines.is_request(first):
        raise ValueError(
            "these lines are inputs: say for which model, or write each as"
            ' {"custom_id": …, "method": "POST", "url": "/v1/jobs", "body": {"model": …, "input": …}}'
        )
    if model is not None and lines.is_request(first):
        raise ValueError("these lines name their own models: leave the model out")


def _endpoint_of(line: Mapping[str, Any]) -> str:
    url = line.get("url")
    return url if isinstance(url, str) and url else lines.DEFAULT_ENDPOINT


def _key(file: BinaryIO, options: Mapping[str, Any], run_key: str | None) -> str:
    content = hashlib.sha256()
    while piece := file.read(_CHUNK_BYTES):
        content.update(piece)
    named = json.dumps([content.hexdigest(), options, run_key], sort_keys=True, default=str)
    return f"run-{hashlib.sha256(named.encode()).hexdigest()}"
