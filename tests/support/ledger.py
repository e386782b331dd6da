"""A ledger of promises and of what became of them: every 202, every refusal, every webhook that came."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace import webhooks
from headrace.errors import WebhookVerificationError

from tests.support.receiver import Received

END = "job.completed"
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass(frozen=True)
class Promise:
    """A 202: who shall hear of the job's end, whether it has to end at all, and how."""

    receivers: frozenset[str]
    must_end: bool
    shown: Mapping[str, Any]
    """What a GET must show of it once it ended, as `status` and `output`."""
    sent_at: float
    """When the client first asked for it, by the monotonic clock."""


@dataclass(frozen=True)
class Told:
    """A webhook that was verified."""

    id: str
    data: dict[str, Any]
    body: bytes
    at: float


class Ledger:
    """Clients write down what they were promised, receivers what they were told; many threads may."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets` is what each receiver verifies with, by its path."""
        self._secrets = dict(secrets)
        self._promises: dict[str, Promise] = {}
        self._refused: set[str] = set()
        self._told: defaultdict[tuple[str, str], list[Told]] = defaultdict(list)
        self._seen_wrong: list[str] = []
        self._lock = threading.Lock()

    def accepted(
        self, job_id: str, *receivers: str, must_end: bool = True, sent_at: float = 0.0, **shown: Any
    ) -> None:
        """Write down a 202. At its end the job's webhook shall come to each of these paths, and the job shall
        be as `shown` says.
        """
        with self._lock:
            if job_id in self._promises:
                self._seen_wrong.append(f"{job_id} was promised to two submits")
            self._promises[job_id] = Promise(frozenset(receivers), must_end, shown, sent_at)

    def refused(self, request: str) -> None:
        """Write down a refusal that leaves no doubt (4xx). `request` is what the job's metadata would have
        said under that name.
        """
        with self._lock:
            self._refused.add(request)

    def wrong(self, what: str) -> None:
        """Write down what a client saw and never should have seen."""
        with self._lock:
            self._seen_wrong.append(what)

    def told(self, one: Received) -> int:
        """Write down a webhook that says how a job ended. Returns what to answer."""
        try:
            event = webhooks.verify(one.headers, one.body, self._secrets[one.path])
        except WebhookVerificationError as error:
            with self._lock:
                self._seen_wrong.append(f"{one.path} got what it can't verify: {error}")
            return 400
        with self._lock:
            if event.type == END:
                told = Told(event.id, event.data, one.body, one.at)
                self._told[one.path, event.data["id"]].append(told)
            else:
                self._seen_wrong.append(f"{one.path} was told of {event.type}, which nobody asked for")
        return 204

    def promised(self) -> int:
        """How many 202s there were."""
        with self._lock:
            return len(self._promises)

    def open(self) -> list[str]:
        """Jobs that have to end, and of whose end somebody was not told yet."""
        with self._lock:
            return [
                job_id
                for job_id, promise in self._promises.items()
                if promise.must_end and any((path, job_id) not in self._told for path in promise.receivers)
            ]

    def told_last(self, sent_before: float) -> float | None:
        """When the last one was told of its end, of all that were asked for before this moment."""
        with self._lock:
            times = [
                min(told.at for told in self._told[path, job_id])
                for job_id, promise in self._promises.items()
                if promise.must_end and promise.sent_at < sent_before
                for path in promise.receivers
            ]
        return max(times, default=None)

    def judge(self, jobs: Iterable[Mapping[str, Any]]) -> list[str]:
        """Every violation, as a sentence. `jobs` are all jobs there are now, as the server shows them."""
        with self._lock:
            return [*self._seen_wrong, *self._violations({job["id"]: job for job in jobs})]

    def _violations(self, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for job_id, promise in self._promises.items():
            job = jobs.get(job_id)
            if job is None:
                yield f"{job_id} got a 202 and is lost"
                continue
            ended = job["status"] in ENDED
            if promise.must_end and not ended:
                yield f"{job_id} is {job['status']} and should have ended"
            for name, value in promise.shown.items():
                if ended and job.get(name) != value:
                    yield f"{job_id} shows {name} {job.get(name)!r} and not {value!r}"
            for path in promise.receivers:
                if ended and (path, job_id) not in self._told:
                    yield f"{job_id} ended and {path} was not told"
        for job_id in jobs.keys() - self._promises.keys():
            yield f"{job_id} exists and nobody got a 202 for it"
        for job_id, job in jobs.items():
            if (job.get("metadata") or {}).get("request") in self._refused:
                yield f"{job_id} exists, and its request was refused"
        for (path, job_id), several in self._told.items():
            yield from self._wrongs(path, jobs.get(job_id), self._promises.get(job_id), several)
        yield from self._shared_ids()

    def _wrongs(
        self, path: str, job: Mapping[str, Any] | None, promise: Promise | None, several: list[Told]
    ) -> Iterator[str]:
        what = f"{path} on {several[0].data['id']}"
        if job is None or promise is None:
            yield f"{what}: an unknown job"
            return
        if path not in promise.receivers:
            yield f"{what}: did not ask for it"
        if job["status"] not in ENDED:
            yield f"{what}: was told of an end, and it is {job['status']}"
        if len({told.id for told in several}) > 1:
            yield f"{what}: one event under {len({told.id for told in several})} webhook-ids"
        if len({told.body for told in several}) > 1:
            yield f"{what}: one event with different bodies"
        # A list of jobs shows no attempts.
        shown = {name: value for name, value in job.items() if (name, value) != ("attempts", None)}
        differing = [name for name, value in shown.items() if several[0].data.get(name) != value]
        if differing:
            yield f"{what}: not as GET shows it: {', '.join(differing)}"

    def _shared_ids(self) -> Iterator[str]:
        events_of = defaultdict(set)
        for event, several in self._told.items():
            for told in several:
                events_of[told.id].add(event)
        for webhook_id, events in events_of.items():
            if len(events) > 1:
                yield f"{webhook_id} stands for {len(events)} events"
