"""Batches at the HTTP edge: what clients make, see and stop. What becomes of one is done by hand here."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from app.domain.batch_states import ENDED, BatchStatus
from app.domain.stages import BatchBell
from app.intake import files
from tests.integration.api.client import Api, HandSender, uuid_of
from tests.integration.api.test_api_files import rows, storage_of, stored, strays, uploaded
from tests.support.batches import HandClerk

KEY = {"Idempotency-Key": "batch-1"}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {"model": "echo", "input": {}}}
NONE = {"queued": 0, "running": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
NOBODY = "batch_0190163d8694739b8aea4cd100000000"


@pytest.fixture
def clerk(api: Api) -> HandClerk:
    return HandClerk.start(api.queue)


def post(api: Api, body: Any = None, headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"endpoint": "/v1/jobs", **members} if body is None else body
    return api.post("/v1/batches", json=body, headers=headers or {})


def made(api: Api, **members: Any) -> dict[str, Any]:
    """A batch as answered; of one line, unless `members` say otherwise."""
    if "input_file_id" not in members:
        members.setdefault("requests", [LINE])
    answer = post(api, **members)
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = answer.json
    return batch


def seen(api: Api, batch: dict[str, Any]) -> dict[str, Any]:
    answer = api.get(f"/v1/batches/{batch['id']}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json
    return shown


def batches(api: Api) -> int:
    count: int = api.queue.execute("SELECT count(*) FROM batches")[0][0]
    return count


def bells(api: Api) -> int:
    waiting: int = api.app.extensions["headrace"].ringer.waiting(BatchBell.queue)
    return waiting


def test_a_batch_is_openais_with_more_members(api: Api) -> None:
    file = uploaded(api)
    answer = post(
        api, input_file_id=file["id"], endpoint="/v1/jobs", completion_window="24h", metadata={"k": "v"}
    )
    batch = answer.json
    here = f"http://localhost/v1/batches/{batch['id']}"
    assert (answer.status_code, answer.headers["Location"]) == (200, here)
    assert batch == {
        "id": batch["id"],
        "object": "batch",
        "endpoint": "/v1/jobs",
        "errors": None,
        "input_file_id": file["id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": batch["created_at"],
        "in_progress_at": None,
        "expires_at": batch["created_at"] + 86_400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": {"k": "v"},
        "counts": NONE,
        "progress": {"fraction": 0.0, "rate_per_s": None, "eta_s": None},
        "on_invalid": "fail",
        "invalid": 0,
        "dry_run": False,
        "estimate": None,
        "retry_of": None,
        "urls": {
            "get": here,
            "cancel": f"{here}/cancel",
            "retry": f"{here}/retry",
            "results": f"{here}/results",
        },
    }
    assert seen(api, batch) == batch
    assert api.get("/v1/batches").json["data"] == [batch]
    assert batch["id"].endswith("0" * 8)
    work = api.queue.execute("SELECT batch_id, due_at <= now(), worker_id FROM batch_work")
    assert work == [(uuid_of(batch), True, None)]
    assert bells(api) == 1


def test_requests_that_come_along_are_a_file(api: Api) -> None:
    other = {**LINE, "custom_id": "b", "body": {"model": "echo", "input": {"text": "a\nb\u2028é"}}}
    batch = made(api, requests=[LINE, other])
    file = api.get(f"/v1/files/{batch['input_file_id']}").json
    assert (file["purpose"], file["filename"]) == ("batch", "requests.jsonl")
    content = api.get(f"/v1/files/{file['id']}/content").data
    assert content.endswith(b"\n")
    assert [api.app.json.loads(line) for line in content.splitlines()] == [LINE, other]
    assert strays(api) == 0


def test_what_is_asked_for_is_kept(api: Api) -> None:
    batch = made(
        api,
        endpoint="/v1/embeddings",
        completion_window="90m",
        on_invalid="skip",
        dry_run=True,
        webhook="https://example.com/hook",
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (batch["on_invalid"], batch["dry_run"]) == ("skip", True)
    assert batch["expires_at"] - batch["created_at"] == 5400
    row = api.queue.execute("SELECT webhook, output_expires_after_s FROM batches")
    assert row == [("https://example.com/hook", 3600)]


def test_null_is_as_absent(api: Api) -> None:
    members = ("metadata", "webhook", "on_invalid", "dry_run", "input_file_id", "output_expires_after")
    batch = made(api, **dict.fromkeys(members), requests=[LINE])
    assert (batch["metadata"], batch["on_invalid"], batch["dry_run"]) == ({}, "fail", False)


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({}, "/input_file_id", "required"),
        ({"requests": None}, "/input_file_id", "required"),
        ({"requests": [LINE], "input_file_id": "file_1"}, "/requests", "not_allowed"),
        ({"requests": []}, "/requests", "too_short"),
        ({"requests": LINE}, "/requests", "wrong_type"),
        ({"requests": [LINE, "x"]}, "/requests/1", "wrong_type"),
        ({"input_file_id": 7}, "/input_file_id", "wrong_type"),
        ({"endpoint": None}, "/endpoint", "not_allowed"),
        ({"endpoint": "/v1/chat/completions"}, "/endpoint", "not_allowed"),
        ({"endpoint": "/v1/jobs/"}, "/endpoint", "not_allowed"),
        ({"completion_window": None}, "/completion_window", "wrong_type"),
        ({"completion_window": 24}, "/completion_window", "wrong_type"),
        ({"completion_window": "24"}, "/completion_window", "bad_format"),
        ({"completion_window": "0h"}, "/completion_window", "bad_format"),
        ({"completion_window": "24h\n"}, "/completion_window", "bad_format"),
        ({"completion_window": "२४h"}, "/completion_window", "bad_format"),
        ({"completion_window": "8d"}, "/completion_window", "bad_format"),
        ({"completion_window": "169h"}, "/completion_window", "bad_format"),
        ({"completion_window": "30s"}, "/completion_window", "bad_format"),
        ({"metadata": {"k": 1}}, "/metadata/k", "wrong_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "/metadata", "too_long"),
        ({"webhook": "http://example.com/"}, "/webhook", "invalid_url"),
        ({"webhook": "https://127.0.0.1/"}, "/webhook", "blocked_url"),
        ({"on_invalid": "ignore"}, "/on_invalid", "not_allowed"),
        ({"dry_run": "yes"}, "/dry_run", "wrong_type"),
        ({"output_expires_after": {"seconds": 3600}}, "/output_expires_after/anchor", "required"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "/output_expires_after/seconds",
            "out_of_range",
        ),
        ({"priority": "high"}, "/priority", "unknown_field"),
    ],
)
def test_what_is_wrong_is_named(api: Api, members: dict[str, Any], pointer: str, code: str) -> None:
    about_input = not members or {"requests", "input_file_id"} & set(members)
    members = members if about_input else {"requests": [LINE], **members}
    answer = post(api, **members)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), answer.text
    assert (pointer, code) in [(one["pointer"], one["code"]) for one in answer.json["errors"]]
    assert (batches(api), rows(api), stored(api), bells(api)) == (0, 0, [], 0)


@pytest.mark.parametrize("body", [[], "x", 7, [LINE]])
def test_a_body_that_is_no_object_is_refused(reader: Api, body: Any) -> None:
    answer = reader.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_file_that_can_not_be_read_is_named(api: Api, stranger: Api) -> None:
    theirs = uploaded(stranger)["id"]
    gone = uploaded(api)["id"]
    api.request("DELETE", f"/v1/files/{gone}")
    late = uploaded(api)["id"]
    api.queue.execute("UPDATE files SET expires_at = now() WHERE tenant_id = :id", id=api.queue.tenant_id)
    for name in (theirs, gone, late, "file-abc", "", "x" * 10_000, NOBODY):
        answer = post(api, input_file_id=name)
        assert (answer.status_code, answer.json["code"]) == (404, "file_not_found"), name
        (error,) = answer.json["errors"]
        assert (error["pointer"], answer.json["error"]["param"]) == ("/input_file_id", "input_file_id")
    output = files.store(
        api.queue.engine, storage_of(api), api.queue.tenant_id, "batch_output", "out.jsonl", [b"{}\n"]
    )
    answer = post(api, input_file_id=f"file_{output.id.hex}")
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/input_file_id")
    assert "purpose batch" in answer.json["detail"]
    assert batches(api) == 0


def test_requests_count_towards_the_quota(api: Api) -> None:
    body = {"model": "echo", "input": {"text": "x" * 90_000}}
    codes = [post(api, requests=[{**LINE, "body": body}]).status_code for _ in range(12)]
    assert codes == [200] * 11 + [413]
    answer = post(api, requests=[LINE] * 900)
    assert answer.json["code"] == "file_quota_exceeded"
    assert (batches(api), len(stored(api)), strays(api)) == (11, 11, 0)


def test_another_tenants_batch_is_not_there(api: Api, stranger: Api, clerk: HandClerk) -> None:
    batch = made(api)
    clerk.run(uuid_of(batch), 2)
    for name in (batch["id"], NOBODY, "batch_1", "job_" + batch["id"][6:], "%00"):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/results")):
            answer = stranger.request(method, f"/v1/batches/{name}{path}")
            assert (answer.status_code, answer.json["code"]) == (404, "batch_not_found"), (name, path)
    assert stranger.get("/v1/batches").json["data"] == []
    assert stranger.get(f"/v1/jobs?batch_id={batch['id']}").json["data"] == []
    assert seen(api, batch)["status"] == "in_progress"


def test_scopes(api: Api) -> None:
    batch = made(api)
    reader, writer = api.with_key("batches:read"), api.with_key("batches:write")
    path = f"/v1/batches/{batch['id']}"
    for asked in (path, "/v1/batches", f"{path}/results"):
        assert (reader.get(asked).status_code, writer.get(asked).status_code) == (200, 403)
    assert [one.post(f"{path}/cancel").status_code for one in (reader, writer)] == [403, 200]
    assert [one.post(f"{path}/retry").status_code for one in (reader, writer)] == [403, 409]
    assert [post(one, requests=[LINE]).status_code for one in (reader, writer)] == [403, 200]
    assert api.with_key("jobs:read", "jobs:write").get(path).json["code"] == "missing_scope"


# Idempotency


def test_the_same_again_gets_the_first_answer_again(api: Api, clerk: HandClerk) -> None:
    file = uploaded(api)
    first = post(api, input_file_id=file["id"], headers=KEY)
    clerk.run(uuid_of(first.json), 3)
    api.request("DELETE", f"/v1/files/{file['id']}")
    second = post(api, input_file_id=file["id"], headers=KEY)
    assert (second.status_code, second.json) == (200, first.json)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    other = post(api, requests=[LINE], headers=KEY)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reused")
    assert (batches(api), rows(api), stored(api)) == (1, 0, [])


def test_of_a_hundred_racing_requests_with_one_key_one_makes_a_batch(api: Api) -> None:
    body = {"endpoint": "/v1/jobs", "requests": [LINE]}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(api, body, KEY), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len({answer.json["input_file_id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert (batches(api), rows(api), len(stored(api)), strays(api)) == (1, 1, 1, 0)


# What is seen of it


def test_counts_are_of_jobs_wherever_they_are(api: Api, clerk: HandClerk) -> None:
    batch = made(api)
    key = uuid_of(batch)
    clerk.run(uuid_of(made(api)), 5)  # its neighbour's jobs are not counted
    clerk.run(key, 20)
    for status, count in (("succeeded", 6), ("failed", 3), ("canceled", 2), ("expired", 1)):
        clerk.work(key, count, status)
    clerk.claim(key, 4)
    shown = seen(api, batch)
    assert shown["status"] == "in_progress"
    assert shown["counts"] == {
        "queued": 4,
        "running": 4,
        "succeeded": 6,
        "errored": 3,
        "canceled": 2,
        "expired": 1,
    }
    assert shown["request_counts"] == {"total": 20, "completed": 6, "failed": 6}
    assert shown["progress"]["fraction"] == 0.6
    assert shown["progress"]["rate_per_s"] > 0
    assert shown["progress"]["eta_s"] == pytest.approx(8 / shown["progress"]["rate_per_s"], abs=0.1)
    assert api.get("/v1/batches?limit=1&status=in_progress").json["data"][0]["counts"]["queued"] == 5


def test_counts_sum_up_while_jobs_move(api: Api, clerk: HandClerk) -> None:
    batch, total = made(api), 120
    key = uuid_of(batch)
    clerk.run(key, total)

    def work() -> None:
        for _ in range(total // 3):
            clerk.claim(key, 4)
            clerk.settle(key, 3)
        clerk.settle(key, total)

    done, polls = [], 0
    mover = threading.Thread(target=work)
    mover.start()
    while mover.is_alive():
        shown = seen(api, batch)
        counts, polls = shown["counts"], polls + 1
        assert sum(counts.values()) == shown["request_counts"]["total"] == total
        assert min(counts.values()) >= 0
        done.append(shown["request_counts"]["completed"])
    mover.join()
    assert done == sorted(done)
    assert polls > 5
    assert seen(api, batch)["request_counts"] == {"total": total, "completed": total, "failed": 0}


def test_the_rate_is_of_lately(api: Api, clerk: HandClerk) -> None:
    batch = made(api)
    key = uuid_of(batch)
    clerk.run(key, 100)
    api.queue.execute("UPDATE batches SET in_progress_at = now() - interval '1 hour'")
    clerk.work(key, 40)
    api.queue.execute("UPDATE batch_tallies SET at = now() - interval '31 seconds'")
    assert seen(api, batch)["progress"] == {"fraction": 0.4, "rate_per_s": None, "eta_s": None}
    clerk.work(key, 30)
    progress = seen(api, batch)["progress"]
    assert progress == {"fraction": 0.7, "rate_per_s": 1.0, "eta_s": 30.0}


def test_every_end_is_shown(api: Api, clerk: HandClerk) -> None:
    document = api.http.get("/openapi.json").json
    schema = {"$ref": "#/components/schemas/Batch", "components": document["components"]}
    validator = Draft202012Validator(schema)
    for status in BatchStatus:
        batch = made(api)
        clerk.run(uuid_of(batch), 2)
        clerk.work(uuid_of(batch), 2)
        if status is not BatchStatus.VALIDATING:
            clerk.move(uuid_of(batch), status)
        shown = seen(api, batch)
        assert [error.message for error in validator.iter_errors(shown)] == []
        if status is not BatchStatus.VALIDATING:
            assert shown["status"] == status
            assert shown[f"{status}_at"] >= shown["created_at"]
        assert shown["progress"]["fraction"] == 1.0
        assert (shown["progress"]["eta_s"] is None) == (status in ENDED | {BatchStatus.FINALIZING})


def test_wrong_lines_are_shown_in_order_a_thousand_at_most(api: Api, clerk: HandClerk) -> None:
    batch = made(api, on_invalid="skip")
    clerk.wrong(uuid_of(batch), 7, param="body.input")
    clerk.wrong(uuid_of(batch), 3, "duplicate_custom_id")
    shown = seen(api, batch)
    assert shown["invalid"] == 2
    assert shown["errors"] == {
        "object": "list",
        "data": [
            {"code": "duplicate_custom_id", "line": 3, "message": "not so", "param": None},
            {"code": "invalid_json_line", "line": 7, "message": "not so", "param": "body.input"},
        ],
    }
    clerk.wrong(uuid_of(batch), 0, "empty_file")
    assert seen(api, batch)["errors"]["data"][0]["line"] is None
    api.queue.execute(
        "INSERT INTO batch_errors (batch_id, line, code, message)"
        " SELECT :id, n, 'invalid_request', 'no' FROM generate_series(8, 2000) n",
        id=uuid_of(batch),
    )
    assert len(seen(api, batch)["errors"]["data"]) == 1000
    assert len(api.get("/v1/batches").json["data"][0]["errors"]["data"]) == 10


def test_a_dry_run_has_an_estimate_and_no_jobs(api: Api) -> None:
    batch = made(api, dry_run=True)
    api.queue.execute("""UPDATE batches SET total = 3, estimate = '{"requests": 3}'""")
    shown = seen(api, batch)
    assert (shown["estimate"], shown["counts"]) == ({"requests": 3}, NONE)


# Cancel


@pytest.mark.parametrize("status", list(BatchStatus))
def test_cancel_is_asked_once_and_never_of_what_has_ended(
    api: Api, clerk: HandClerk, status: BatchStatus
) -> None:
    batch = made(api)
    key, path = uuid_of(batch), f"/v1/batches/{batch['id']}/cancel"
    if status is not BatchStatus.VALIDATING:
        clerk.move(key, status)
    api.queue.execute("UPDATE batch_work SET due_at = now() + interval '1 hour'")
    before = seen(api, batch)
    first, second = api.post(path), api.post(path)
    due = api.queue.execute("SELECT due_at <= now() FROM batch_work")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json == second.json == seen(api, batch)
    if status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
        assert first.json["status"] == "cancelling"
        assert first.json["cancelling_at"] >= batch["created_at"]
        assert due == [(True,)]
    else:
        assert first.json == before
        assert due in ([], [(False,)])


def test_of_many_who_cancel_all_see_the_same(api: Api, clerk: HandClerk) -> None:
    batch = made(api)
    clerk.run(uuid_of(batch), 3)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: api.post(f"/v1/batches/{batch['id']}/cancel"), range(30)))
    assert {(one.status_code, one.json["status"], one.json["cancelling_at"]) for one in answers} == {
        (200, "cancelling", answers[0].json["cancelling_at"])
    }
    assert sum(answers[0].json["counts"].values()) == 3


# Retry


@pytest.mark.parametrize("end", ["failed", "canceled", "expired"])
def test_what_failed_is_run_again_as_it_was(api: Api, clerk: HandClerk, end: str) -> None:
    first = made(api, completion_window="3d", metadata={"k": "v"}, on_invalid="skip")
    clerk.run(uuid_of(first), 3)
    clerk.work(uuid_of(first), 2)
    clerk.work(uuid_of(first), 1, end)
    clerk.move(uuid_of(first), BatchStatus.COMPLETED)
    answer = api.post(f"/v1/batches/{first['id']}/retry", headers=KEY)
    again = answer.json
    assert (answer.status_code, again["status"], again["retry_of"]) == (200, "validating", first["id"])
    for member in ("endpoint", "completion_window", "metadata", "on_invalid"):
        assert again[member] == first[member]
    assert again["input_file_id"] == ""
    assert again["expires_at"] - again["created_at"] == 3 * 86_400
    assert seen(api, again) == again
    assert api.queue.execute("SELECT count(*) FROM batch_work") == [(1,)]
    replayed = api.post(f"/v1/batches/{first['id']}/retry", headers=KEY)
    assert (replayed.json, replayed.headers["Idempotent-Replayed"]) == (again, "true")
    assert api.post(f"/v1/batches/{again['id']}/retry", headers=KEY).json["code"] == "idempotency_key_reused"
    assert batches(api) == 2


def test_what_has_not_ended_or_did_not_fail_is_not_run_again(api: Api, clerk: HandClerk) -> None:
    batch = made(api)
    path = f"/v1/batches/{batch['id']}/retry"
    clerk.run(uuid_of(batch), 2)
    clerk.work(uuid_of(batch), 2)
    for status in (BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING):
        clerk.move(uuid_of(batch), status)
        assert (api.post(path).status_code, api.post(path).json["code"]) == (409, "batch_not_ended")
    clerk.move(uuid_of(batch), BatchStatus.CANCELLED)
    assert (api.post(path).status_code, api.post(path).json["code"]) == (409, "nothing_to_retry")
    wrong = made(api)
    clerk.move(uuid_of(wrong), BatchStatus.FAILED)
    assert api.post(f"/v1/batches/{wrong['id']}/retry").json["code"] == "nothing_to_retry"
    assert batches(api) == 2


# Lists


def test_pages_are_newest_first_and_meet_without_gap_or_overlap(api: Api) -> None:
    ids = [made(api)["id"] for _ in range(5)]
    found, query = [], "limit=2"
    for expected_more in (True, True, False):
        page = api.get(f"/v1/batches?{query}").json
        assert (page["object"], page["has_more"]) == ("list", expected_more)
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        found += [one["id"] for one in page["data"]]
        query = f"limit=2&after={page['last_id']}"
    assert found == ids[::-1]


def test_filters_narrow_together(api: Api, clerk: HandClerk) -> None:
    one = made(api, metadata={"k": "v", "x": "y"})
    two = made(api, metadata={"k": "v"})
    clerk.move(uuid_of(two), BatchStatus.COMPLETED)

    def ids(query: str) -> list[str]:
        return [batch["id"] for batch in api.get(f"/v1/batches?{query}").json["data"]]

    assert ids("metadata[k]=v") == [two["id"], one["id"]]
    assert ids("metadata[k]=v&metadata[x]=y") == [one["id"]]
    assert ids("status=completed") == [two["id"]]
    assert ids("status=completed&metadata[x]=y") == []
    assert ids("created_after=2020-01-01T00:00:00Z") == [two["id"], one["id"]]
    assert ids("created_before=2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/query/limit"),
        ("limit=101", "/query/limit"),
        ("after=job_0190163d8694739b8aea4cd100000000", "/query/after"),
        ("status=canceled", "/query/status"),
        ("created_after=yesterday", "/query/created_after"),
        ("model=echo", "/query/model"),
        ("batch_id=" + NOBODY, "/query/batch_id"),
    ],
)
def test_a_wrong_query_is_named(reader: Api, query: str, pointer: str) -> None:
    answer = reader.get(f"/v1/batches?{query}")
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


def test_jobs_can_be_listed_by_batch(api: Api, clerk: HandClerk) -> None:
    alone, one, two = api.submit()["id"], made(api), made(api)
    clerk.run(uuid_of(one), 5)
    clerk.run(uuid_of(two), 2)
    clerk.work(uuid_of(one), 2)
    page = api.get(f"/v1/jobs?batch_id={one['id']}&limit=4").json
    assert ([job["custom_id"] for job in page["data"]], page["has_more"]) == (
        ["line-5", "line-4", "line-3", "line-2"],
        True,
    )
    assert {job["batch_id"] for job in page["data"]} == {one["id"]}
    done = api.get(f"/v1/jobs?batch_id={one['id']}&status=succeeded").json["data"]
    assert [job["custom_id"] for job in done] == ["line-2", "line-1"]
    rest = api.get(f"/v1/jobs?batch_id={one['id']}&after={page['last_id']}").json["data"]
    assert [job["custom_id"] for job in rest] == ["line-1"]
    assert alone in [job["id"] for job in api.get("/v1/jobs").json["data"]]
    assert api.get("/v1/jobs?batch_id=batch_1").json["errors"][0]["pointer"] == "/query/batch_id"


# Beside it


def test_its_file_may_be_deleted_while_it_is_read(api: Api, clerk: HandClerk) -> None:
    file = uploaded(api)
    batch = made(api, input_file_id=file["id"])
    clerk.run(uuid_of(batch), 1)
    assert api.request("DELETE", f"/v1/files/{file['id']}").json["deleted"] is True
    assert seen(api, batch)["input_file_id"] == file["id"]


def test_a_delivery_names_its_batch(api: Api, sender: HandSender) -> None:
    batch = made(api)
    endpoint = api.register(events=["batch.completed"])
    api.queue.execute(
        "INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, url, event, batch_id)"
        " VALUES (gen_random_uuid(), :tenant_id, :endpoint_id, :url, 'batch.completed', :batch_id)",
        tenant_id=api.queue.tenant_id,
        endpoint_id=uuid_of(endpoint),
        url=endpoint["url"],
        batch_id=uuid_of(batch),
    )
    (delivery,) = api.deliveries()
    assert (delivery["batch_id"], delivery["job_id"]) == (batch["id"], None)


def test_results_are_lines_in_order_while_it_runs(api: Api, clerk: HandClerk) -> None:
    batch = made(api)
    path = f"/v1/batches/{batch['id']}/results"
    assert (api.get(path).status_code, api.get(path).data) == (200, b"")
    clerk.run(uuid_of(batch), 1200)
    clerk.work(uuid_of(batch), 1000)
    clerk.work(uuid_of(batch), 100, "failed")
    answer = api.get(path)
    assert answer.mimetype == "application/jsonl"
    lines = [api.app.json.loads(line) for line in answer.data.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"line-{n}" for n in range(1, 1101)]
    assert all(line["error"] is None for line in lines[:1000])
    assert all(line["error"] for line in lines[1000:])
    assert api.request("HEAD", path).data == b""
