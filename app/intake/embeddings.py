"""Embeddings: each text is a job; all are accepted in one statement and awaited together."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from app.broker.ring import Ringer
from app.broker.wakeups import Wakeups
from app.db import results
from app.db.engine import Engine
from app.domain.ids import new_uuid
from app.domain.model import ModelVersion
from app.domain.stages import QueuedJob
from app.domain.states import JobStatus
from app.errors import FieldError, Invalid, Unavailable, WorkFailed
from app.intake import control
from app.intake.accept import Intake, compose
from app.intake.authenticate import Principal
from app.intake.catalogue import Catalogue, Listed
from app.intake.embedding_models import check_dimensions, check_embeds
from app.intake.embedding_request import MAX_ERRORS, EmbeddingRequest, Encoding, texts
from app.intake.embedding_view import vector
from app.intake.request import JobRequest, Policy
from app.intake.validate import validate_input
from app.intake.wait import as_they_end
from app.observability import metrics


class Late(Unavailable):
    """The embeddings were not done in time; what still waited is canceled."""

    code = "embedding_timeout"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Valid jobs, one a text, about to be written. `places` are the pointers to the texts, in their order."""

    jobs: Sequence[QueuedJob]
    places: Sequence[str]
    version: ModelVersion
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors as JSON texts, in the order of the request's texts, and what they took."""

    vectors: Sequence[bytes]
    tokens: int


class Embedder:
    """Answers embedding requests through the queue. One per process; safe to share among threads."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        intake: Intake,
        ringer: Ringer,
        wakeups: Wakeups,
        patience_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._intake = intake
        self._ringer = ringer
        self._wakeups = wakeups
        self._patience_s = patience_s
        self._clock = clock

    def prepare(self, principal: Principal, asked: EmbeddingRequest) -> Prepared:
        """The jobs for this request, not written yet.

        Raises `NotFound` for a model that is not there, `Invalid` for one that does not embed and for texts
        that it does not take.
        """
        placed = texts(asked)
        listed = self._catalogue.get(asked.model)
        check_embeds(listed.version.spec)
        check_dimensions(listed.version.spec, asked.dimensions)
        inputs = [orjson.dumps({"text": text}) for _, text in placed]
        _check_texts(listed, placed, inputs)
        # Nobody asks for these jobs later: they expire, should this process not live to cancel them.
        policy = Policy(queue_ttl_s=self._patience_s)
        request = JobRequest(model=asked.model, input=None, policy=policy)
        like = compose(principal, listed.version, request, b"")
        return Prepared(
            [_job(like, text) for text in inputs],
            [place for place, _ in placed],
            listed.version,
            asked.encoding_format or "float",
        )

    def embed(self, prepared: Prepared, unwanted: Callable[[], bool]) -> Embedded:
        """Write the jobs and wait for all. Once one did not succeed, or time is up, the rest is canceled.

        `unwanted` is asked at each wake-up, and every few seconds, whether nobody waits for the answer any
        more. Raises `Invalid` or `WorkFailed` for a job that failed, `Late`, and `TooManyWaiters` with
        nothing written.
        """
        places = {job.id: place for job, place in zip(prepared.jobs, prepared.places, strict=True)}
        left = set(places)
        vectors: dict[UUID, bytes] = {}
        tokens = 0
        with self._wakeups.watch(*places) as waiter, metrics.HTTP_WAITING.track_inprogress():
            self._intake.write_many(prepared.jobs, prepared.version)
            try:
                for row in as_they_end(
                    lambda ids: results.ended(self._engine, ids),
                    places,
                    waiter,
                    self._wakeups,
                    self._patience_s,
                    unwanted=unwanted,
                    clock=self._clock,
                ):
                    left.discard(row.job_id)
                    vectors[row.job_id] = _vector(row, places[row.job_id], prepared.encoding)
                    tokens += row.units or 0
                if left:
                    raise Late("the embeddings were not done in time; send fewer texts at once, or come back")
            finally:
                if left:
                    self._give_up(left)
        return Embedded([vectors[job_id] for job_id in places], tokens)

    def _give_up(self, job_ids: set[UUID]) -> None:
        with contextlib.suppress(Unavailable):  # then their time in the queue ends them
            control.give_up(self._engine, self._ringer, self._wakeups, list(job_ids))


def _check_texts(listed: Listed, placed: Sequence[tuple[str, str]], inputs: Sequence[bytes]) -> None:
    refused: Invalid | None = None
    errors: list[FieldError] = []
    for (place, text), encoded in zip(placed, inputs, strict=True):
        try:
            validate_input(listed, {"text": text}, encoded)
        except Invalid as error:
            refused = error
            # What the model says of /input/text, it says of this text.
            errors += [FieldError(place, wrong.code, wrong.message) for wrong in error.errors]
            if len(errors) >= MAX_ERRORS:
                break
    if refused is not None:
        raise Invalid(refused.code, refused.detail, errors[:MAX_ERRORS])


def _job(like: QueuedJob, text: bytes) -> QueuedJob:
    # With a single member the text is its own canonical form.
    return dataclasses.replace(like, id=new_uuid(), input=text, input_hash=hashlib.sha256(text).digest())


def _vector(row: Any, place: str, encoding: Encoding) -> bytes:
    match JobStatus(row.status):
        case JobStatus.SUCCEEDED:
            try:
                return vector(row.output, encoding)
            except ValueError as error:
                code, message = "invalid_output", str(error)
        case JobStatus.FAILED:
            code, message = row.error["code"], row.error["message"]
        case JobStatus.EXPIRED:
            raise Late("the embeddings were not begun in time; send fewer texts at once, or come back")
        case status:
            code, message = status.value, "the job was canceled"
    wrong = FieldError(place, code, message)
    if code == "invalid_input":
        raise Invalid(code, f"{place}: {message}", [wrong])
    raise WorkFailed("embedding_failed", f"{place}: {message}", [wrong])
