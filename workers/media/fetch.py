"""Fetching what inputs only name: files out of the storage, and what URLs lead to.

A loop in a thread of its own, begun when it is first needed: most children never fetch. While it waits for
the slow, the child runs what is there.
"""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from app import __version__
from app.db.files import object_key
from app.domain.media import Media, MediaPolicy, UrlReference, type_by_name
from app.errors import Unavailable
from app.settings import Media as MediaSettings
from app.storage import Storage, StorageMissing
from workers.media.room import Room, Share, TooLarge

if TYPE_CHECKING:
    from workers.egress import Egress

PER_JOB = 4
"""How many media of one job are fetched at a time."""

_HEADERS = {"user-agent": f"Headrace-Media/{__version__}", "accept": "*/*", "accept-encoding": "identity"}
_PASSING = {"timeout", "dns", "connection_refused", "connection_failed"}
_MAY_COME_BACK = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


class Unfetched(Exception):
    """Why media is not there. The message is for the job's owner."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as `app.db.files` knows it."""

    row: Any


@dataclass(frozen=True, slots=True)
class Wanted:
    """One media to fetch. `name` is its place in the input, for messages."""

    name: str
    source: StoredFile | UrlReference


class Fetcher:
    """Fetches for one child."""

    def __init__(self, storage: Storage, policy: MediaPolicy, settings: MediaSettings) -> None:
        self._storage = storage
        self._policy = policy
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._egress: Egress | None = None

    def start(self, wanted: Sequence[Wanted], room: Room) -> Future[list[Media]]:
        """Begin to fetch all media of one job, in this order; all of it, or none.

        The future raises `Unfetched` for what failed, and `NoRoom`. Its deadline runs from when it is its
        turn. Cancel it and nothing more is fetched for it.
        """
        return asyncio.run_coroutine_threadsafe(self._job(wanted, Share(room)), self._running())

    def stop(self) -> None:
        """Give up what is under way."""
        loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="media", daemon=True).start()
        return self._loop

    async def _close(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._egress is not None:
            await self._egress.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _job(self, wanted: Sequence[Wanted], share: Share) -> list[Media]:
        # A slot a job: one that names many URLs takes no more of the child than one that names one.
        async with self._slots:
            abreast = asyncio.Semaphore(PER_JOB)
            tasks = [asyncio.ensure_future(self._one(each, share, abreast)) for each in wanted]
            try:
                async with asyncio.timeout(self._settings.deadline_s):
                    return await asyncio.gather(*tasks)
            except BaseException as error:
                share.close()
                if isinstance(error, TimeoutError):
                    late = next(
                        (each for each, task in zip(wanted, tasks, strict=True) if _cut(task)), wanted[0]
                    )
                    raise _timed_out(late.name) from None
                raise
            finally:
                for task in tasks:
                    task.cancel()

    async def _one(self, wanted: Wanted, share: Share, abreast: asyncio.Semaphore) -> Media:
        async with abreast:
            try:
                if isinstance(wanted.source, UrlReference):
                    return await self._get(wanted.name, wanted.source, share)
                return await self._read(wanted.name, wanted.source.row, share)
            except TooLarge:
                most = self._settings.max_bytes
                raise Unfetched(
                    "media_too_large", f"{wanted.name}: the job's media have more than {most} bytes in all"
                ) from None

    async def _get(self, name: str, source: UrlReference, share: Share) -> Media:
        from workers.egress import Egress, EgressError

        if not self._policy.urls:
            raise Unfetched("media_blocked", f"{name}: this server fetches no URLs; upload a file instead")
        if self._egress is None:
            self._egress = Egress(self._policy.egress)
        content = bytearray()

        def take(chunk: bytes) -> None:
            share.take(len(chunk))
            content.extend(chunk)

        try:
            answer = await self._egress.get(source.url, _HEADERS, take, deadline_s=self._settings.deadline_s)
        except EgressError as error:
            if error.kind == "blocked":
                raise Unfetched("media_blocked", f"{name}: its host is not on the public internet") from None
            if error.kind == "timeout":
                raise _timed_out(name) from None
            what = error.kind.replace("_", " ")
            retryable = error.kind in _PASSING
            raise Unfetched("media_fetch_failed", f"{name}: {what}", retryable=retryable) from None
        if answer.status != HTTPStatus.OK:
            raise _refused(name, answer.status)
        filename = source.filename
        return Media(bytes(content), answer.content_type or type_by_name(filename), filename)

    async def _read(self, name: str, row: Any, share: Share) -> Media:
        share.take(row.bytes)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._settings.in_flight, thread_name_prefix="media")
        loop = asyncio.get_running_loop()
        try:
            content = await loop.run_in_executor(self._threads, _whole, self._storage, row, share)
        except StorageMissing:
            # Deleted a moment ago, which its row tells the next time.
            raise Unfetched("media_not_found", f"{name}: the file is gone", retryable=True) from None
        except Unavailable:
            raise Unfetched(
                "media_fetch_failed", f"{name}: the file storage can't be read", retryable=True
            ) from None
        return Media(content, type_by_name(row.filename), row.filename)


def not_found(name: str) -> Unfetched:
    """The same for a file that never was, for one that is gone, and for one of somebody else."""
    return Unfetched("media_not_found", f"{name}: there is no such file any more")


def _whole(storage: Storage, row: Any, share: Share) -> bytes:
    content = bytearray()
    for chunk in storage.read(object_key(row.tenant_id, row.id), 0, row.bytes):
        if share.closed:
            break
        content.extend(chunk)
    return bytes(content)


def _refused(name: str, status: int) -> Unfetched:
    if status in _GONE:
        return Unfetched("media_not_found", f"{name}: its server answered {status}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Unfetched(
            "media_fetch_failed", f"{name}: its server answered {status}; redirects are not followed"
        )
    retryable = status in _MAY_COME_BACK or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Unfetched("media_fetch_failed", f"{name}: its server answered {status}", retryable=retryable)


def _timed_out(name: str) -> Unfetched:
    return Unfetched("media_fetch_failed", f"{name}: was not there in time", retryable=True)


def _cut(task: "asyncio.Future[Media]") -> bool:
    return task.cancelled() or not task.done()
