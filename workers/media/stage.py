"""prepare: claimed jobs get the media that their inputs name. One whose media can't be had fails alone.

window ─► find ─► data URLs: decoded here ──────────────────────────► ready
             └──► files, URLs: fetched aside, harvested as they come ─► ready, ready, … or an outcome
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

from app.db import files
from app.db.engine import Engine
from app.domain.media import BadMedia, FileReference, Media, MediaPolicy, UrlReference, read_reference
from app.domain.model import ModelVersion
from app.domain.stages import ClaimedJob, Failed, Outcome, Released
from app.domain.states import Reason
from app.intake.media import MediaFinder, Path, TooManyMedia, put
from app.intake.unkept import pointer
from app.observability import logs, metrics
from app.settings import Media as MediaSettings
from app.storage import Storage
from workers.media.fetch import Fetcher, StoredFile, Unfetched, Wanted, not_found
from workers.media.room import NoRoom, Room

log = logs.get_logger()

HARVEST_S = 0.5
"""How long those that are ready wait for those that are not: then they run without them."""
MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Job:
    """A job and its media: what is there, and what is to be fetched."""

    job: ClaimedJob
    there: dict[Path, Media] = field(default_factory=dict)
    named: dict[Path, FileReference | UrlReference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Harvest:
    """Jobs with all of their media, and the outcomes of those that go without."""

    ready: list[ClaimedJob]
    unfetched: list[Outcome]


@dataclass(slots=True)
class Gathering:
    """A window whose media is being gathered: `now` is what needed no fetching, `waiting` the rest."""

    now: Harvest
    waiting: dict["Future[list[Media]]", _Job]
    until: float

    def harvests(self, stop: Callable[[], bool], clock: Callable[[], float]) -> Iterator[Harvest]:
        """The rest, as it comes, before the deadline. Once `stop` says so, what is not there is released."""
        pending = set(self.waiting)
        try:
            while pending:
                done, pending = wait(pending, timeout=HARVEST_S)
                reason = Reason.PREEMPTED if stop() else Reason.WAITING_FOR_WORKER
                ended = reason is Reason.PREEMPTED or clock() >= self.until
                given_up, pending = (pending, set()) if ended else (set(), pending)
                if done or given_up:
                    yield self._harvest(done, given_up, reason)
        finally:
            for future in pending:
                future.cancel()

    def _harvest(self, done: set[Any], given_up: set[Any], reason: Reason) -> Harvest:
        harvest = Harvest([], [])
        for future, each in self.waiting.items():
            if future in given_up and not future.cancel():
                done.add(future)  # it ended just now
            elif future in given_up:
                harvest.unfetched.append(Outcome(each.job, Released(reason)))
            if future in done:
                _add(harvest, each, future)
        return harvest


class MediaStage:
    """Gathers the media of windows, for one child."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        policy: MediaPolicy,
        settings: MediaSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._fetcher = Fetcher(storage, policy, settings)
        self._finders: dict[int, tuple[str, MediaFinder | None]] = {}
        self.patience_s = settings.deadline_s + MARGIN_S
        """The longest that gathering takes. A job that came to its turn has ended by then."""

    def finder(self, version: ModelVersion) -> MediaFinder | None:
        """What finds media in inputs of this version. None: it takes none."""
        known = self._finders.get(version.id)
        if known is None or known[0] != version.spec.source_sha256:
            known = (version.spec.source_sha256, MediaFinder.of(version.spec.input_schema))
            self._finders[version.id] = known
        return known[1]

    def gather(self, finder: MediaFinder, jobs: Sequence[ClaimedJob]) -> Gathering:
        """Begin. Changes the inputs of `jobs`. Raises `Unavailable` if Postgres is away."""
        now = Harvest([], [])
        found: list[_Job] = []
        for job in jobs:
            try:
                found.append(_found(finder, job))
            except Unfetched as error:
                now.unfetched.append(_failed(job, error))
        rows = self._rows(found)
        room = Room(self._settings.window_bytes, self._settings.max_bytes)
        waiting: dict[Future[list[Media]], _Job] = {}
        for each in found:
            try:
                wanted = [_wanted(each.job, path, named, rows) for path, named in each.named.items()]
            except Unfetched as error:
                now.unfetched.append(_failed(each.job, error))
                continue
            if wanted:
                waiting[self._fetcher.start(wanted, room)] = each
            else:
                now.ready.append(_filled(each, {}))
        return Gathering(now, waiting, self._clock() + self.patience_s)

    def stop(self) -> None:
        """Give up what is under way."""
        self._fetcher.stop()

    def _rows(self, found: Sequence[_Job]) -> dict[tuple[int, Any], Any]:
        pairs = [
            (each.job.tenant_id, named.id)
            for each in found
            for named in each.named.values()
            if isinstance(named, FileReference)
        ]
        return files.those_there(self._engine, pairs) if pairs else {}


def _found(finder: MediaFinder, job: ClaimedJob) -> _Job:
    found = _Job(job)
    try:
        for place in finder.find(job.input):
            reference = read_reference(place.value)
            if isinstance(reference, Media):
                found.there[place.path] = reference
            else:
                found.named[place.path] = reference
    except (BadMedia, TooManyMedia) as error:
        # Accept refuses it: the version's schema is another one than it was.
        raise Unfetched("invalid_input", str(error) or "too many media") from None
    return found


def _wanted(
    job: ClaimedJob, path: Path, named: FileReference | UrlReference, rows: dict[tuple[int, Any], Any]
) -> Wanted:
    name = pointer(path)
    if isinstance(named, UrlReference):
        return Wanted(name, named)
    row = rows.get((job.tenant_id, named.id))
    if row is None:
        raise not_found(name)
    return Wanted(name, StoredFile(row))


def _add(harvest: Harvest, each: _Job, future: "Future[list[Media]]") -> None:
    try:
        fetched = dict(zip(each.named, future.result(), strict=True))
    except NoRoom:
        harvest.unfetched.append(Outcome(each.job, Released(Reason.WAITING_FOR_WORKER)))
    except Unfetched as error:
        harvest.unfetched.append(_failed(each.job, error))
    else:
        harvest.ready.append(_filled(each, fetched))
        metrics.MEDIA_FETCHED.labels("ok").inc(len(fetched))
        metrics.MEDIA_FETCHED_BYTES.inc(sum(len(media.bytes) for media in fetched.values()))


def _filled(each: _Job, fetched: dict[Path, Media]) -> ClaimedJob:
    value = each.job.input
    for path, media in {**each.there, **fetched}.items():
        value = put(value, path, media)
    return replace(each.job, input=value)


def _failed(job: ClaimedJob, error: Unfetched) -> Outcome:
    metrics.MEDIA_FETCHED.labels(error.code).inc()
    log.info("media.unfetched", code=error.code, retryable=error.retryable)
    return Outcome(job, Failed(error.code, str(error), error.retryable))
