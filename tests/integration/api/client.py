"""A client of an application in this process, and the work of a worker done by hand."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from flask import Flask

from app.db import deliveries as deliveries_sql
from app.db import settle as settle_sql
from app.db.conservation import check
from app.db.deliveries import ClaimedDelivery
from app.domain.delivery import DeliveryStatus, TryError
from app.domain.ids import format_id, parse_id
from app.domain.stages import ClaimedJob, DeliveryBell, WorkerIdentity
from app.domain.states import JobStatus
from app.intake.keys import issue_key
from app.settings import Settings
from tests.support.jobs import Queue


@dataclass
class Api:
    """Talks to one application with one key."""

    app: Flask
    queue: Queue
    settings: Settings
    key: str
    http: Any = field(init=False)

    def __post_init__(self) -> None:
        self.http = self.app.test_client()

    def with_key(self, *scopes: str, tenant_id: int | None = None, **options: Any) -> "Api":
        """The same application with another key."""
        pepper = self.settings.secret_key.get_secret_value()
        tenant_id = self.queue.tenant_id if tenant_id is None else tenant_id
        key = issue_key(self.queue.engine, pepper, tenant_id, scopes=scopes, actor="test", **options)
        return Api(self.app, self.queue, self.settings, key)

    def with_client(self) -> "Api":
        """The same with a client of its own, for a thread."""
        return Api(self.app, self.queue, self.settings, self.key)

    def request(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self.http.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self.request("POST", path, **options)

    def send(self, body: bytes, **headers: str) -> Any:
        """POST these bytes to /v1/jobs as JSON, unless the headers say otherwise."""
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.post("/v1/jobs", data=body, headers=sent)

    def submit(self, input: Any = None, **options: Any) -> dict[str, Any]:
        """Submit to echo; the job as answered."""
        headers = options.pop("headers", {})
        body = {"model": "echo", "input": {} if input is None else input, **options}
        answer = self.post("/v1/jobs", json=body, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        job: dict[str, Any] = answer.json
        return job

    def register(self, url: str = "https://example.com/hook", **options: Any) -> dict[str, Any]:
        """Register a webhook endpoint; as answered, with its secret."""
        answer = self.post("/v1/webhooks", json={"url": url, **options})
        assert answer.status_code == 201, answer.text
        endpoint: dict[str, Any] = answer.json
        return endpoint

    def deliveries(self, query: str = "") -> list[dict[str, Any]]:
        """The newest deliveries, newest first."""
        answer = self.get(f"/v1/webhooks/deliveries?{query}")
        assert answer.status_code == 200, answer.text
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    def bells(self) -> int:
        """How many bells of the sender wait."""
        waiting: int = self.app.extensions["headrace"].ringer.waiting(DeliveryBell.queue)
        return waiting

    def jobs_written(self) -> int:
        """How many jobs there are in all, and a check that each is in one place."""
        report = check(self.queue.engine)
        assert not report.violations
        return report.counts["jobs"]


_OUTCOME = {JobStatus.SUCCEEDED: "succeeded", JobStatus.CANCELED: "canceled"}


@dataclass
class HandWorker:
    """Claims and settles as a worker would."""

    queue: Queue
    identity: WorkerIdentity

    @classmethod
    def start(cls, queue: Queue) -> "HandWorker":
        return cls(queue, queue.worker())

    def claim(self) -> list[ClaimedJob]:
        return self.queue.claim(self.identity)

    def settle(self, job: ClaimedJob, status: JobStatus = JobStatus.SUCCEEDED, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "job_id": job.id,
            "epoch": job.epoch,
            "status": status,
            "outcome": _OUTCOME.get(status, "error"),
            "charge": 0 if status is JobStatus.SUCCEEDED else 1,
            "output": orjson.dumps(job.input).decode() if status is JobStatus.SUCCEEDED else None,
            "error": '{"code": "boom", "message": "it broke"}' if status is JobStatus.FAILED else None,
            "error_code": "boom" if status is JobStatus.FAILED else None,
            "batch_size": 1,
            "units": 3,
            "run_s": 0.25,
            "device_s": 0.125,
        }
        settled = settle_sql.settle(
            self.queue.engine, self.identity, [settle_sql.Settlement(**{**fields, **changes})]
        )
        assert [done.id for done in settled] == [job.id]

    def work(self, status: JobStatus = JobStatus.SUCCEEDED) -> list[UUID]:
        """Everything that waits, done."""
        done = []
        for job in self.claim():
            self.settle(job, status)
            done.append(job.id)
        return done


@dataclass
class HandSender:
    """Claims deliveries and settles them as the sender would, without sending anything."""

    queue: Queue
    worker_id: UUID

    @classmethod
    def start(cls, queue: Queue) -> "HandSender":
        return cls(queue, queue.worker(name="sender/0").id)

    def claim(self) -> list[ClaimedDelivery]:
        asked: dict[str, Any] = {"window": 100, "room": 100, "rooms": {}}
        return list(deliveries_sql.claim(self.queue.engine, self.worker_id, **asked).deliveries)

    def settle(self, claimed: ClaimedDelivery, status: DeliveryStatus, **changes: Any) -> None:
        fields: dict[str, Any] = {"id": claimed.id, "epoch": claimed.epoch, "status": status}
        if status is DeliveryStatus.DELIVERED:
            fields |= {"status_code": 200, "latency_s": 0.012}
        else:
            fields |= {"status_code": 500, "latency_s": 0.5, "error": TryError.HTTP_STATUS}
        row = deliveries_sql.SettledTry(**{**fields, **changes})
        assert deliveries_sql.settle(self.queue.engine, [row]).ids == {claimed.id}

    def send(self, status: DeliveryStatus = DeliveryStatus.DELIVERED, **changes: Any) -> list[str]:
        """Everything that is due, tried once. Returns the ids."""
        claimed = self.claim()
        for one in claimed:
            self.settle(one, status, **changes)
        return [format_id("dlv", one.id) for one in claimed]


def uuid_of(shown: dict[str, Any]) -> UUID:
    """The UUID in the id of a job, an endpoint or a delivery."""
    return parse_id(shown["id"].partition("_")[0], shown["id"])
