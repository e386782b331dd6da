"""Following a job: its row as it changes, turned into events that can be resumed.

There is no log of events: an event is the difference between what the client saw and what is. So an
event's id says what the client has seen by then (state and progress), and after a broken connection
only what differs from it is sent.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from zlib import crc32

from app.broker.wakeups import Wakeups
from app.db import jobs
from app.db.engine import Engine
from app.domain.ids import format_id
from app.domain.states import TERMINAL, JobStatus
from app.intake import view
from app.observability import metrics

END = "end"
"""The id of the last event. Who has seen it has seen all."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event: `status`, `progress` or, last, `completed` with the whole job."""

    id: str
    kind: str
    data: dict[str, Any]


class Changes:
    """What a client has seen of one job, and what is new to it. Pure: rows in, events out."""

    def __init__(self, base_url: str, last_event_id: str | None = None) -> None:
        self._base_url = base_url
        state, _, progress = (last_event_id or "").partition(".")
        self._state, self._progress = state, progress

    def since(self, row: Any) -> list[JobEvent]:
        """The events that bring the client up to this row."""
        ended = JobStatus(row.status) in TERMINAL
        events = []
        state = _mark(row.status, row.reason, row.started_at)
        if state != self._state:
            self._state, self._progress = state, ""
            events.append(JobEvent(self._id(), "status", _status(row)))
        if not ended and row.progress is not None:
            progress = _mark(row.progress, row.progress_message)
            if progress != self._progress:
                self._progress = progress
                events.append(JobEvent(self._id(), "progress", _progress(row)))
        if ended:
            events.append(JobEvent(END, "completed", view.job(row, self._base_url)))
        return events

    def _id(self) -> str:
        return f"{self._state}.{self._progress}"


def follow(
    engine: Engine,
    wakeups: Wakeups,
    tenant_id: int,
    job_id: UUID,
    changes: Changes,
    *,
    silence_s: float,
    longest_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[JobEvent | None]:
    """Events as they happen, and None after each `silence_s` without one.

    Over after `completed`, after `longest_s`, or when the process is about to end; the client comes
    back with the last id. Raises `TooManyWaiters` at the first step.
    """
    began = spoke = clock()
    with wakeups.watch(job_id) as waiter, metrics.HTTP_WAITING.track_inprogress():
        while True:
            row = jobs.get(engine, tenant_id, job_id)
            if row is None:
                return
            for event in changes.since(row):
                yield event
                spoke = clock()
                if event.id == END:
                    return
            now = clock()
            if wakeups.closing or now - began >= longest_s:
                return
            if now - spoke >= silence_s:
                yield None
                spoke = now
            waiter.wait(min(spoke + silence_s, began + longest_s) - now)


def _status(row: Any) -> dict[str, Any]:
    return {
        "id": format_id(view.JOB, row.id),
        "status": row.status,
        "status_reason": row.reason,
        "started_at": view.moment(row.started_at),
        "completed_at": view.moment(row.completed_at),
    }


def _progress(row: Any) -> dict[str, Any]:
    return {
        "id": format_id(view.JOB, row.id),
        "fraction": round(row.progress, 6),
        "message": row.progress_message,
    }


def _mark(*values: object) -> str:
    return f"{crc32(repr(values).encode('utf-8', 'replace')):08x}"
