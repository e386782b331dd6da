"""`POST /v1/embeddings`: a job a text, accepted together, awaited together, given up together."""

import base64
import socket
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import redis

from app.broker import wakeups as wakeups_module
from app.broker.channels import WAKE_CHANNEL, encode_ids
from app.db import claim, models
from app.domain.ids import new_uuid
from app.domain.lanes import Lane
from app.domain.stages import ClaimedJob
from app.domain.states import JobStatus
from tests.integration.api.client import Api, HandWorker
from tests.integration.api.conftest import Clock, open_api, strict_spec
from tests.integration.api.server import serve
from tests.support.waiting import wait_until

NOBODY = "redis://127.0.0.1:1/0"
SPEC = replace(
    strict_spec(),
    name="lengths",
    input_schema={
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 20}},
        "required": ["text"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "embedding": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        },
    },
)


def vector(text: str) -> list[float]:
    """What the model of these tests makes of a text: numbers that a float32 can hold."""
    return [float(len(text)), 0.5]


class Embeddings:
    """The application with a model that embeds, and a worker that is no process."""

    def __init__(self, api: Api, pool: ThreadPoolExecutor) -> None:
        self.api = api
        self.parts = api.app.extensions["headrace"]
        self.worker = HandWorker.start(api.queue)
        self._pool = pool
        models.register(api.queue.engine, SPEC, actor="test")
        version = models.find(api.queue.engine, SPEC.name, None)
        assert version is not None
        self.version = version

    def post(self, input: Any, **members: Any) -> Any:
        return self.api.post("/v1/embeddings", json={"model": SPEC.name, "input": input, **members})

    def ask(self, input: Any, **members: Any) -> Future[Any]:
        """A request that is being held now, its jobs written."""
        # Each thread needs a client of its own.
        one = Api(self.api.app, self.api.queue, self.api.settings, self.api.key)
        body = {"model": SPEC.name, "input": input, **members}
        before = self.api.jobs_written()
        future = self._pool.submit(one.post, "/v1/embeddings", json=body)
        wait_until(lambda: self.api.jobs_written() > before or future.done(), 10, "the jobs")
        return future

    def claim(self, window: int = 3000) -> list[ClaimedJob]:
        claimed = claim.claim(
            self.api.queue.engine, self.worker.identity.id, self.version.id, Lane.INTERACTIVE, window, 60.0
        )
        return list(claimed.jobs)

    def settle(self, job: ClaimedJob, **changes: Any) -> None:
        if "status" not in changes:
            changes = {"output": orjson.dumps({"embedding": vector(job.input["text"])}).decode()} | changes
        self.worker.settle(job, **changes)

    def tell(self, jobs: Sequence[ClaimedJob]) -> None:
        self.parts.wakeups.announce([job.id for job in jobs])

    def work(self) -> list[ClaimedJob]:
        """Everything that waits, done, last first."""
        jobs = self.claim()
        for job in reversed(jobs):
            self.settle(job)
        self.tell(jobs)
        return jobs

    def statuses(self) -> list[str]:
        return [job["status"] for job in reversed(self.api.get("/v1/jobs?limit=100").json["data"])]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def embeddings(api: Api, pool: ThreadPoolExecutor) -> Embeddings:
    return Embeddings(api, pool)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself: what wakes is the wake-up alone."""
    monkeypatch.setattr(wakeups_module, "HEARING_POLL_S", 600.0)
    monkeypatch.setattr(wakeups_module, "DEAF_POLL_S", 600.0)


@pytest.mark.usefixtures("patient")
def test_vectors_come_in_the_order_of_their_texts(embeddings: Embeddings) -> None:
    texts = ["x" * size for size in (7, 1, 20, 3, 3)]
    held = embeddings.ask(texts)
    assert [job.input["text"] for job in embeddings.work()] == texts
    answer = held.result(10)
    assert answer.status_code == 200
    assert answer.json == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector(text)}
            for index, text in enumerate(texts)
        ],
        "model": "lengths",
        "usage": {"prompt_tokens": 15, "total_tokens": 15},
    }
    assert embeddings.statuses() == ["succeeded"] * 5


@pytest.mark.usefixtures("patient")
def test_one_text_needs_no_list_and_a_version_may_be_named(embeddings: Embeddings) -> None:
    held = embeddings.ask("hello", model="lengths@1", user="somebody", dimensions=2, encoding_format=None)
    embeddings.work()
    answer = held.result(10).json
    assert [one["embedding"] for one in answer["data"]] == [vector("hello")]
    assert answer["model"] == "lengths@1"


@pytest.mark.usefixtures("patient")
def test_base64_is_little_endian_float32(embeddings: Embeddings) -> None:
    held = embeddings.ask(["a", "four"], encoding_format="base64")
    embeddings.work()
    texts = [one["embedding"] for one in held.result(10).json["data"]]
    assert base64.b64decode(texts[0]) == b"\x00\x00\x80\x3f\x00\x00\x00\x3f"
    assert array("f", base64.b64decode(texts[1])).tolist() == vector("four")


@pytest.mark.usefixtures("patient")
def test_many_texts_are_one_statement_one_bell_and_a_read_a_wake_up(
    embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    execute, ours = psycopg.Cursor.execute, threading.current_thread()

    def note(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not ours:
            statements.append(str(statement))
        return execute(cursor, statement, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    held = embeddings.ask([f"text {number}" for number in range(2048)])
    wait_until(lambda: embeddings.parts.wakeups.hearing, 10, "the listener")
    assert embeddings.parts.ringer.waiting("cpu.interactive") == 1
    assert embeddings.parts.wakeups.waiting == 1
    jobs = embeddings.claim()
    assert [job.input["text"] for job in jobs] == [f"text {number}" for number in range(2048)]
    for job in jobs[:10]:
        embeddings.settle(job)
    embeddings.tell(jobs[:10])
    embeddings.api.queue.execute(
        "WITH gone AS (DELETE FROM job_leases RETURNING job_id)"
        " INSERT INTO job_results (job_id, status, output)"
        """ SELECT job_id, 'succeeded', '{"embedding": [1, 2]}' FROM gone"""
    )
    embeddings.tell(jobs[10:])
    assert len(held.result(20).json["data"]) == 2048
    assert sum("INSERT INTO jobs" in statement for statement in statements) == 1
    # The listener, too, wakes everybody when it begins to hear.
    assert 1 <= sum("job_results" in statement for statement in statements) <= 4


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({"input": ""}, "/input", "too_short"),
        ({"input": []}, "/input", "too_short"),
        ({"input": ["a"] * 2049}, "/input", "too_long"),
        ({"input": ["a", ""]}, "/input/1", "too_short"),
        ({"input": ["a", None, "b"]}, "/input/1", "wrong_type"),
        ({"input": {"text": "a"}}, "/input", "wrong_type"),
        ({"input": None}, "/input", "wrong_type"),
        ({"input": [101, 2023]}, "/input", "tokens_not_taken"),
        ({"input": [[101], [2023]]}, "/input", "tokens_not_taken"),
        ({"input": ["a", "x" * 21]}, "/input/1", "too_long"),
        ({"input": "x" * 21}, "/input", "too_long"),
        ({"encoding_format": "hex"}, "/encoding_format", "not_allowed"),
        ({"dimensions": 1}, "/dimensions", "not_allowed"),
        ({"dimensions": 0}, "/dimensions", "out_of_range"),
        ({"dimensions": "2"}, "/dimensions", "wrong_type"),
        ({"model": 7}, "/model", "wrong_type"),
        ({"model": "echo"}, "/model", "model_does_not_embed"),
        ({"model": "strict"}, "/model", "model_does_not_embed"),
        ({"more": 1}, "/more", "unknown_field"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    embeddings: Embeddings, members: dict[str, Any], pointer: str, code: str
) -> None:
    answer = embeddings.post(**{"input": "a", **members})
    assert answer.status_code == 422
    assert [(wrong["pointer"], wrong["code"]) for wrong in answer.json["errors"]] == [(pointer, code)]
    assert answer.json["error"]["param"] == pointer.removeprefix("/").replace("/", ".")
    assert embeddings.api.jobs_written() == 0


def test_every_wrong_text_is_named_up_to_100(embeddings: Embeddings) -> None:
    answer = embeddings.post(["fine", *["x" * 21] * 150])
    assert answer.json["code"] == "invalid_input"
    assert [wrong["pointer"] for wrong in answer.json["errors"]] == [f"/input/{n}" for n in range(1, 101)]


def test_an_unknown_model_is_404_as_openais(embeddings: Embeddings) -> None:
    for name in ("none", "lengths@2", "no such/name"):
        answer = embeddings.post("a", model=name)
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")


def test_it_needs_the_scope_to_write_jobs(embeddings: Embeddings) -> None:
    reader = embeddings.api.with_key("jobs:read")
    assert reader.post("/v1/embeddings", json={"model": "lengths", "input": "a"}).status_code == 403


@pytest.mark.usefixtures("patient")
def test_a_text_that_fails_fails_the_request_and_the_rest_is_canceled(embeddings: Embeddings) -> None:
    held = embeddings.ask(["a", "b", "c", "d"])
    first, second, third = embeddings.claim(3)
    embeddings.settle(first)
    embeddings.settle(second, status=JobStatus.FAILED)
    embeddings.tell([second])
    answer = held.result(10)
    assert (answer.status_code, answer.json["code"]) == (500, "embedding_failed")
    assert answer.json["errors"] == [{"pointer": "/input/1", "code": "boom", "message": "it broke"}]
    assert answer.json["error"]["message"] == "/input/1: it broke"
    assert not answer.json["retryable"]
    assert answer.headers["X-Should-Retry"] == "false"
    # What waited ended; what ran is asked to.
    assert embeddings.statuses() == ["succeeded", "failed", "running", "canceled"]
    embeddings.settle(third)
    assert embeddings.statuses() == ["succeeded", "failed", "canceled", "canceled"]
    embeddings.api.jobs_written()


@pytest.mark.usefixtures("patient")
def test_a_text_that_only_the_model_refuses_is_the_clients_fault(embeddings: Embeddings) -> None:
    held = embeddings.ask("a")
    (job,) = embeddings.claim()
    embeddings.settle(
        job, status=JobStatus.FAILED, error='{"code": "invalid_input", "message": "not a word"}'
    )
    embeddings.tell([job])
    answer = held.result(10)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_input")
    assert answer.json["errors"] == [{"pointer": "/input", "code": "invalid_input", "message": "not a word"}]
    assert "X-Should-Retry" not in answer.headers


@pytest.mark.parametrize("output", ["{}", "null", '{"embedding": 1}', '{"embedding": [1, "a"]}'])
@pytest.mark.usefixtures("patient")
def test_an_output_that_is_no_embedding_is_an_error(embeddings: Embeddings, output: str) -> None:
    held = embeddings.ask("a")
    (job,) = embeddings.claim()
    embeddings.settle(job, output=output)
    embeddings.tell([job])
    answer = held.result(10)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (500, "invalid_output")


@pytest.mark.usefixtures("patient")
def test_a_job_that_somebody_canceled_fails_the_request(embeddings: Embeddings) -> None:
    held = embeddings.ask(["a", "b"])
    newest = embeddings.api.get("/v1/jobs").json["data"][0]
    embeddings.api.post(f"/v1/jobs/{newest['id']}/cancel")
    answer = held.result(10)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (500, "canceled")
    assert embeddings.statuses() == ["canceled", "canceled"]


@pytest.mark.usefixtures("patient")
def test_what_is_late_is_503_and_canceled(
    database_url: str, redis_url: str, clock: Clock, pool: ThreadPoolExecutor
) -> None:
    with open_api(database_url, redis_url, clock=clock) as api:
        embeddings = Embeddings(api, pool)
        held = embeddings.ask(["a", "b"])
        (job,) = embeddings.claim(1)
        clock.now += api.settings.api.max_wait_s
        embeddings.tell([job])
        answer = held.result(10)
        assert (answer.status_code, answer.json["code"]) == (503, "embedding_timeout")
        assert answer.json["retryable"]
        assert answer.headers["Retry-After"] == "1"
        assert embeddings.statuses() == ["running", "canceled"]


def test_what_nobody_canceled_expires_with_the_wait(embeddings: Embeddings) -> None:
    held = embeddings.ask("a")
    patience_s = embeddings.api.settings.api.max_wait_s
    ((seconds,),) = embeddings.api.queue.execute(
        "SELECT extract(epoch FROM expires_at - created_at) FROM jobs"
    )
    assert seconds == patience_s
    embeddings.work()
    held.result(10)


@pytest.mark.usefixtures("patient")
def test_a_process_that_ends_lets_go_and_cancels(embeddings: Embeddings) -> None:
    held = embeddings.ask(["a", "b"])
    embeddings.parts.wakeups.close()
    assert held.result(10).status_code == 503
    assert embeddings.statuses() == ["canceled", "canceled"]


def test_beyond_its_limit_a_process_refuses_and_writes_nothing(embeddings: Embeddings) -> None:
    places = range(embeddings.api.settings.api.max_waiters)
    waiters = [embeddings.parts.wakeups.watch(new_uuid()) for _ in places]
    for waiter in waiters:
        waiter.__enter__()
    answer = embeddings.post("a")
    assert (answer.status_code, answer.json["code"]) == (503, "too_many_waiters")
    assert embeddings.api.jobs_written() == 0
    for waiter in waiters:
        waiter.__exit__(None, None, None)


def test_without_redis_it_works_by_looking(database_url: str, pool: ThreadPoolExecutor) -> None:
    with open_api(database_url, NOBODY) as api:
        embeddings = Embeddings(api, pool)
        held = embeddings.ask(["a", "b"])
        for job in embeddings.claim():
            embeddings.settle(job)
        assert len(held.result(10).json["data"]) == 2


def test_a_wake_up_that_was_lost_costs_a_few_seconds(
    embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups_module, "HEARING_POLL_S", 0.2)
    held = embeddings.ask(["a", "b"])
    wait_until(lambda: embeddings.parts.wakeups.hearing, 10, "the listener")
    first, second = embeddings.claim()
    embeddings.settle(first)
    embeddings.settle(second)
    embeddings.tell([second])
    assert held.result(10).status_code == 200


def test_an_idempotency_key_is_no_business_of_it(embeddings: Embeddings) -> None:
    def send() -> Any:
        one = Api(embeddings.api.app, embeddings.api.queue, embeddings.api.settings, embeddings.api.key)
        body = {"model": "lengths", "input": "a"}
        return one.post("/v1/embeddings", json=body, headers={"Idempotency-Key": "again"})

    for count in (1, 2):
        held = embeddings._pool.submit(send)
        wait_until(lambda count=count: embeddings.api.jobs_written() == count, 10, "the job")
        embeddings.work()
        answer = held.result(10)
        assert answer.status_code == 200
        assert "Idempotent-Replayed" not in answer.headers


def test_a_client_that_leaves_is_not_worked_for(
    embeddings: Embeddings, redis_url: str, tmp_path: Path
) -> None:
    body = orjson.dumps({"model": "lengths", "input": ["a", "b", "c"]})
    head = (
        "POST /v1/embeddings HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {embeddings.api.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with serve(embeddings.api.settings, tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head.encode() + body)
            wait_until(lambda: embeddings.api.jobs_written() == 3, 10, "the jobs")
            first = embeddings.claim(1)
            publish = publisher(redis_url, first)
            publish()
            assert embeddings.statuses() == ["running", "queued", "queued"]

        def gone() -> bool:
            publish()
            return embeddings.statuses()[1:] == ["canceled", "canceled"]

        wait_until(gone, 20, "the rest to be canceled")
        assert [
            row[0] for row in embeddings.api.queue.execute("SELECT cancel_requested FROM job_leases")
        ] == [True]


def publisher(redis_url: str, jobs: Sequence[ClaimedJob]) -> Callable[[], None]:
    """Says of these jobs that there is news."""

    def publish() -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.publish(WAKE_CHANNEL, encode_ids([job.id for job in jobs]))

    return publish
