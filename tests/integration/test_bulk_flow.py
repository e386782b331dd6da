"""A batch from its file to its files: validate, ingest, run, finalize."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from app.db import conservation
from app.domain.ids import format_id, item_uuid
from app.intake import files
from app.intake.batch_results import stream
from tests.support.bulk import Bulk, line
from tests.support.crew import register
from tests.support.jobs import Queue

ONCE = {"max_attempts": 1}


def bad(n: int) -> Any:
    """A line that is wrong in one of ten ways."""
    good = line(f"bad-{n}")
    return [
        b"{this is no JSON",
        b'{"custom_id":"\xff"}',
        {**good, "custom_id": None},
        {**good, "custom_id": "0"},
        {**good, "method": "GET"},
        {**good, "url": "/v1/models"},
        {**good, "url": "/v1/embeddings"},
        line(f"bad-{n}", model="nobody"),
        line(f"bad-{n}", {"sleep_ms": "long"}),
        line(f"bad-{n}", colour="red"),
    ][n % 10]


CODES = [
    "invalid_json_line",
    "invalid_json_line",
    "missing_custom_id",
    "duplicate_custom_id",
    "invalid_method",
    "invalid_url",
    "url_mismatch",
    "unknown_model",
    "invalid_input",
    "invalid_request",
]


def with_20_bad(total: int) -> tuple[list[Any], list[int]]:
    """So many lines, of which 20 are wrong, and the numbers of those."""
    lines: list[Any] = [line(n) for n in range(total)]
    wrong = [total // 20 * (n + 1) for n in range(20)]
    for n, number in enumerate(wrong):
        lines[number - 1] = bad(n)
    return lines, wrong


def test_a_batch_runs_from_its_file_to_its_files_in_order(bulk: Bulk) -> None:
    lines = [line(n, {"n": n, "fail": n % 7 == 3}, retry=ONCE) for n in range(500)]
    batch_id = bulk.create(lines)
    row = bulk.finish(batch_id)
    assert (row.status, row.total, row.ingested, row.invalid) == ("completed", 500, 500, 0)
    output, error = bulk.outputs(batch_id)
    wrong = [n for n in range(500) if n % 7 == 3]
    assert [one["custom_id"] for one in error] == [str(n) for n in wrong]
    assert [one["custom_id"] for one in output] == [str(n) for n in range(500) if n not in wrong]
    assert error[0]["error"] == {"code": "model_error", "message": "RuntimeError: asked to fail"}
    assert error[0]["response"] is None
    first = output[0]
    assert first["id"] == f"batch_req_{item_uuid(batch_id, 1).hex}"
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    body = first["response"]["body"]
    assert (body["object"], body["model"], body["version"]) == ("job", "echo", "1")
    assert (body["status"], body["output"]) == ("succeeded", {"n": 0, "fail": False})
    assert body["created_at"].endswith("Z")
    succeeded, failed = 500 - len(wrong), len(wrong)
    assert bulk.counts(batch_id) == {"succeeded": succeeded, "failed": failed, "canceled": 0, "expired": 0}
    assert not conservation.check(bulk.queue.engine).violations
    assert not bulk.queue.execute("SELECT FROM batch_work")
    rows = bulk.queue.execute("SELECT purpose, batch_id FROM files ORDER BY id")
    assert rows[1:] == [("batch_output", batch_id), ("batch_output", batch_id)]


def test_twenty_bad_lines_of_ten_thousand_are_all_reported_and_nothing_runs(bulk: Bulk) -> None:
    lines, wrong = with_20_bad(10_000)
    batch_id = bulk.create(lines)
    bulk.clerk.bookkeep()
    row = bulk.get(batch_id)
    assert (row.status, row.total, row.invalid, row.output_file_id) == ("failed", 0, 20, None)
    assert bulk.errors(batch_id) == list(zip(wrong, CODES * 2, strict=True))
    error = bulk.read(row.error_file_id)
    assert [(one["error"]["line"], one["error"]["code"]) for one in error] == bulk.errors(batch_id)
    assert error[3] == {
        "id": None,
        "custom_id": "0",
        "response": None,
        "error": {
            "code": "duplicate_custom_id",
            "message": "line 1 has the same custom_id",
            "line": wrong[3],
            "param": "/custom_id",
        },
    }
    assert bulk.queue.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_media_of_lines_is_judged_as_that_of_jobs(bulk: Bulk) -> None:
    register(bulk.queue, "Weigh")
    file = files.store(bulk.queue.engine, bulk.storage, bulk.queue.tenant_id, "vision", "a.png", [b"a"])
    media: list[Any] = [
        "data:,a",
        {"file_id": format_id("file", file.id)},
        "https://user:secret@example.com/",
        "https://169.254.169.254/",
        {"file_id": "file_" + "0" * 32},
        "data:;base64,?",
    ]
    batch_id = bulk.create([line(n, {"media": one}, model="weigh") for n, one in enumerate(media)])
    bulk.clerk.bookkeep()
    assert bulk.errors(batch_id) == [(number, "invalid_input") for number in (3, 4, 5, 6)]
    wrong = bulk.read(bulk.get(batch_id).error_file_id)
    assert [one["error"]["param"] for one in wrong] == [
        "/body/input/media",
        "/body/input/media",
        "/body/input/media/file_id",
        "/body/input/media",
    ]


def test_with_skip_the_others_run_and_wrong_lines_stand_in_order_among_what_failed(bulk: Bulk) -> None:
    lines, wrong = with_20_bad(1000)
    lines[0] = line("first", {"fail": True}, retry=ONCE)
    lines[3] = line("0")
    lines[499 + 1] = line("500", {"fail": True}, retry=ONCE)
    batch_id = bulk.create(lines, on_invalid="skip")
    row = bulk.finish(batch_id)
    assert (row.status, row.total, row.invalid) == ("completed", 980, 20)
    output, error = bulk.outputs(batch_id)
    assert len(output) == 978
    places = [one["error"].get("line") or one["custom_id"] for one in error]
    assert places == ["first", *wrong[:10], "500", *wrong[10:]]


def test_all_wrong_lines_beyond_a_thousand_are_in_the_error_file(bulk: Bulk) -> None:
    batch_id = bulk.create(b"nonsense\n" * 2500)
    bulk.clerk.bookkeep()
    row = bulk.get(batch_id)
    assert (row.status, row.invalid) == ("failed", 2500)
    assert [one["error"]["line"] for one in bulk.read(row.error_file_id)] == list(range(1, 2501))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\xef\xbb\xbf\r\n \n", "empty_file"),
        (b"\n".join([b"{}"] * 6), "too_many_lines"),
    ],
)
def test_a_file_can_be_wrong_as_a_whole(
    database_url: str, redis_url: str, tmp_path: Any, content: bytes, code: str
) -> None:
    bulk = Bulk.open(database_url, redis_url, tmp_path / "storage", max_lines=5)
    for on_invalid in ("fail", "skip"):
        batch_id = bulk.create(content, on_invalid=on_invalid)
        bulk.clerk.bookkeep()
        assert bulk.get(batch_id).status == "failed"
        assert bulk.errors(batch_id)[0] == (0, code)
    bulk.close()


def test_a_file_deleted_before_it_was_read_fails_the_batch(bulk: Bulk) -> None:
    batch_id = bulk.create([line(1)])
    bulk.queue.execute("DELETE FROM files")
    bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "failed"
    assert bulk.errors(batch_id) == [(0, "file_not_found")]


def test_a_file_deleted_while_jobs_are_made_fails_the_batch_with_what_it_has(
    database_url: str, redis_url: str, tmp_path: Any
) -> None:
    bulk = Bulk.open(database_url, redis_url, tmp_path / "storage", chunk=10)
    batch_id = bulk.create([line(n) for n in range(25)])
    clerk = bulk.hurried_clerk()
    while not bulk.get(batch_id).ingested:
        bulk.step(clerk)
    bulk.queue.execute("DELETE FROM files")
    row = bulk.finish(batch_id)
    assert (row.status, row.total) == ("failed", 10)
    output, _ = bulk.outputs(batch_id)
    assert [one["custom_id"] for one in output] == [str(n) for n in range(10)]
    assert bulk.errors(batch_id) == [(0, "file_not_found")]
    bulk.close()


def test_a_dry_run_validates_estimates_and_makes_no_jobs(bulk: Bulk) -> None:
    done = bulk.finish(bulk.create([line(n) for n in range(10)]))
    assert done.status == "completed"
    lines: list[Any] = [line(n) for n in range(30)]
    batch_id = bulk.create([*lines, b"nonsense"], dry_run=True)
    bulk.clerk.bookkeep()
    row = bulk.get(batch_id)
    assert (row.status, row.total, row.invalid) == ("completed", 0, 1)
    assert (row.estimate["valid"], row.estimate["invalid"]) == (30, 1)
    assert row.estimate["models"] == {"echo@1": 30}
    assert row.estimate["seconds"] > 0
    assert len(bulk.read(row.error_file_id)) == 1
    assert bulk.queue.execute("SELECT count(*) FROM jobs") == [(10,)]


def test_results_can_be_read_while_it_runs(bulk: Bulk) -> None:
    lines = [line(n) for n in range(100)]
    lines[10] = {**lines[10], "method": "GET"}
    batch_id = bulk.create(lines, on_invalid="skip")
    bulk.clerk.bookkeep()
    assert custom_ids(bulk, batch_id) == ["10"]
    worker = bulk.queue.worker(queues=("cpu.batch",))
    bulk.run_some(worker, 20)
    assert custom_ids(bulk, batch_id) == [str(n) for n in range(21)]
    bulk.finish(batch_id)
    assert custom_ids(bulk, batch_id) == [str(n) for n in range(100)]


def custom_ids(bulk: Bulk, batch_id: UUID) -> list[str]:
    text = b"".join(stream(bulk.queue.engine, bulk.get(batch_id)))
    return [orjson.loads(one)["custom_id"] for one in text.splitlines()]


def test_what_ends_a_batch_tells_its_own_url_and_endpoints_but_not_of_each_job(bulk: Bulk) -> None:
    subscribe(bulk.queue, ["job.completed", "job.started", "batch.completed", "batch.failed"])
    batch_id = bulk.create(
        [line(1, webhook="https://example.com/job"), line(2)], webhook="https://example.com/b"
    )
    bulk.finish(batch_id)
    failed = bulk.create(b"")
    bulk.clerk.bookkeep()
    rows = bulk.queue.execute(
        "SELECT event, url, batch_id, job_id FROM webhook_deliveries ORDER BY created_at, url"
    )
    assert [tuple(row) for row in rows] == [
        ("job.completed", "https://example.com/job", None, item_uuid(batch_id, 1)),
        ("batch.completed", "https://example.com/b", batch_id, None),
        ("batch.completed", "https://example.com/endpoint", batch_id, None),
        ("batch.failed", "https://example.com/endpoint", failed, None),
    ]
    assert bulk.queue.execute("SELECT count(*) FROM webhook_queue") == [(4,)]
    assert not conservation.check(bulk.queue.engine).violations


def subscribe(queue: Queue, events: list[str]) -> None:
    queue.execute(
        "INSERT INTO webhook_endpoints (id, tenant_id, url, events, secret, created_at, updated_at)"
        " VALUES (gen_random_uuid(), :tenant, 'https://example.com/endpoint', :events, 'x', now(), now())",
        tenant=queue.tenant_id,
        events=events,
    )


def test_a_file_of_embeddings_answers_as_the_endpoint_does(bulk: Bulk) -> None:
    version = bulk.register_embedder()
    lines = [
        {
            "custom_id": "one",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "lengths", "input": "abc"},
        },
        {
            "custom_id": "two",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "lengths", "input": ["a", "bb"], "encoding_format": "base64"},
        },
        {
            "custom_id": "three",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "lengths", "input": ["fine", "fail"]},
        },
    ]
    batch_id = bulk.create(lines, endpoint="/v1/embeddings")
    row = bulk.finish(batch_id, version=version)
    assert (row.status, row.total) == ("completed", 5)
    output, error = bulk.outputs(batch_id)
    bodies = [one["response"]["body"] for one in output]
    assert [one["custom_id"] for one in output] == ["one", "two"]
    assert bodies[0] == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [3.0, 1.0]}],
        "model": "lengths",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert [one["embedding"] for one in bodies[1]["data"]] == ["AACAPwAAgD8=", "AAAAQAAAgD8="]
    assert [(one["custom_id"], one["error"]["code"]) for one in error] == [("three", "model_error")]
    again = bulk.create(None, endpoint="/v1/embeddings", retry_of=batch_id)
    bulk.clerk.bookkeep()
    (gathered,) = bulk.read(bulk.get(again).input_file_id)
    assert gathered["custom_id"] == "three"
    assert gathered["body"] == {"model": "lengths@1", "input": ["fine", "fail"], "encoding_format": "float"}


def test_a_retry_gathers_what_did_not_succeed_just_as_it_was_asked_for(bulk: Bulk) -> None:
    odd = line(
        "odd",
        {"fail": True, "text": 'tab\tnewline\n backslash \\ quote " \u0000 \u2028'},
        priority="high",
        policy={"queue_ttl_s": 600, "execution_timeout_s": 7},
        retry={"max_attempts": 1, "initial_delay_ms": 5, "max_delay_ms": 9},
        metadata={"k": "v\\\t"},
        use_case="a\tb",
        webhook="https://example.com/x",
        webhook_events_filter=["started", "completed"],
    )
    batch_id = bulk.create([line(1), odd, line(2)])
    bulk.finish(batch_id)
    again = bulk.create(None, retry_of=batch_id)
    bulk.clerk.bookkeep()
    row = bulk.get(again)
    (gathered,) = bulk.read(row.input_file_id)
    body = gathered["body"]
    assert body.pop("version") == "1"
    assert gathered == {**odd, "body": body}
    assert body == odd["body"]
    assert row.status == "in_progress"
    assert files.fetch(bulk.queue.engine, bulk.queue.tenant_id, row.input_file_id).purpose == "batch"
    assert bulk.finish(again).status == "completed"


def test_a_version_is_fixed_when_the_file_is_validated(bulk: Bulk) -> None:
    batch_id = bulk.create([line(n) for n in range(3)])
    bulk.step()
    assert bulk.get(batch_id).versions == {"echo": bulk.queue.echo.id}
    bulk.new_version_of_echo("2")
    bulk.clerk.bookkeep()
    assert bulk.queue.execute("SELECT DISTINCT version_id FROM jobs") == [(bulk.queue.echo.id,)]
