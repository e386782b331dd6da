"""Batches: made, followed, read; and whole runs that survive the client."""

import io
import json
import tracemalloc

import pytest
from batch_testkit import bad, batch, errors, jsonl, result
from client_testkit import Reply, problem
from headrace import BatchCancelled, BatchExpired, BatchFailed, BatchWaitTimeout, Client, ConflictError, lines
from headrace.spool import written

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {"model": "echo", "input": {"n": 1}}}


@pytest.fixture
def user(live):
    with Client() as made:
        yield made


def _texts(number):
    return [{"text": str(n)} for n in range(number)]


def test_create_sends_what_was_given_and_nothing_else(client, script):
    script.then(Reply(body=batch()), Reply(body=batch()))
    client.batches.create("file_1")
    assert script.requests[0].json == {
        "input_file_id": "file_1",
        "endpoint": "/v1/jobs",
        "completion_window": "24h",
    }
    client.batches.create(
        requests=[LINE],
        endpoint="/v1/embeddings",
        completion_window="7d",
        metadata={"k": "v"},
        on_invalid="skip",
        dry_run=True,
        webhook="https://example.com/hook",
        idempotency_key="mine",
    )
    assert script.requests[1].headers["Idempotency-Key"] == "mine"
    assert script.requests[1].json == {
        "requests": [LINE],
        "endpoint": "/v1/embeddings",
        "completion_window": "7d",
        "metadata": {"k": "v"},
        "on_invalid": "skip",
        "dry_run": True,
        "webhook": "https://example.com/hook",
    }
    with pytest.raises(ValueError, match="either"):
        client.batches.create()


def test_wait_asks_ever_less_often_and_shows_each_answer(client, script, clock):
    script.then(
        *[Reply(body=batch("in_progress", counts={"queued": 3 - n, "succeeded": n})) for n in range(3)]
    )
    script.then(problem(503, "down", retryable=True), Reply(body=batch("completed", counts={"succeeded": 3})))
    found, seen = client.batches.get("batch_1"), []
    found.wait(on_progress=lambda now: seen.append((now.status, now.counts["succeeded"], now.total)))
    assert seen == [("in_progress", n, 3) for n in range(3)] + [("completed", 3, 3)]
    assert clock.sleeps[:3] == [0.1, 0.2, 0.4]
    assert found.done
    assert found.ended_at is not None


def test_wait_ends_when_its_time_is_over_and_the_batch_goes_on(client, script):
    script.then(*[Reply(body=batch("in_progress"))] * 6)
    found = client.batches.get("batch_1")
    with pytest.raises(BatchWaitTimeout, match="still in_progress after 2 s") as caught:
        found.wait(timeout=2)
    assert caught.value.batch is found


def test_results_that_break_off_are_read_on_without_gaps_or_repeats(client, script):
    before = [result("b", 2, number=2), result(None, error=bad(3)), result("d", 4, number=4)]
    # A moment later more have ended; what was passed is passed.
    after = [result("a", 1, number=1), *before, result(None, error=bad(6)), result("e", 5, number=5)]
    cut = jsonl(before)[:-30]
    script.then(Reply(pieces=[cut], headers={"Content-Length": "100000"}), Reply(drop=True))
    script.then(Reply(body=jsonl(after)))
    found = list(client.batches.results("batch_1"))
    assert [one.custom_id for one in found] == ["b", None, "d", None, "e"]
    assert [one.ok for one in found] == [True, False, True, False, True]
    assert found[0].output == 2
    assert (found[0].status_code, found[0].body["object"]) == (200, "job")
    assert (found[1].line, found[1].error["code"]) == (3, "invalid_json_line")


def test_an_error_in_the_body_of_a_response_is_an_error_too(client, script):
    line = result("a") | {"response": {"status_code": 400, "body": {"error": {"code": "bad"}}}}
    script.then(Reply(body=jsonl([line])))
    (found,) = client.batches.results("batch_1")
    assert (found.ok, found.error["code"], found.output) == (False, "bad", None)


def test_plain_inputs_are_named_by_their_number_or_themselves(user, live, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "a", "n": 1.10}\r\n{"custom_id": "mine", "text": "b"}\n'
        b'"c"\n{"custom_id": 7, "x": 1}'
    )
    found = list(user.batches.run("in.jsonl", model="echo"))
    assert [(one.custom_id, one.output) for one in found] == [
        ("1", {"text": "a", "n": 1.1}),
        ("mine", {"text": "b"}),
        ("3", "c"),
        ("7", {"x": 1}),
    ]
    # An input that has no name of its own is passed on as it was written.
    (file_id,) = (file.id for file in user.files.list(purpose="batch") if file.purpose == "batch")
    assert b'"input":{"text": "a", "n": 1.10}}}' in b"".join(user.files.content(file_id))


def test_lines_of_openais_shape_go_as_they_are(user, tmp_path):
    content = jsonl([LINE, LINE | {"custom_id": "b", "url": "/v1/jobs"}])
    (tmp_path / "in.jsonl").write_bytes(content)
    for source in ("in.jsonl", io.BytesIO(content), iter([LINE, LINE | {"custom_id": "b"}])):
        assert [one.custom_id for one in user.batches.run(source)] == ["a", "b"]
    assert content in [b"".join(user.files.content(file.id)) for file in user.files.list()]


def test_the_endpoint_is_that_of_the_first_line(client, script):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    script.then(lambda _: Reply(body={"id": "file_1", "object": "file"}), Reply(body=batch()))
    client.batches.submit([line])
    assert script.requests[1].json["endpoint"] == "/v1/embeddings"


@pytest.mark.parametrize(
    ("source", "model", "kind", "message"),
    [
        (io.BytesIO(b'{"text": "a"}\n'), None, ValueError, "which model"),
        (io.BytesIO(jsonl([LINE])), "echo", ValueError, "leave the model out"),
        (io.StringIO("{}"), "echo", TypeError, "binary"),
        ({"text": "a"}, "echo", TypeError, "iterable"),
        (b"{}", "echo", TypeError, "iterable"),
        ([{1, 2}], "echo", TypeError, "JSON"),
        ([float("nan")], "echo", ValueError, "JSON"),
    ],
)
def test_what_can_not_be_run_is_refused_before_it_is_sent(client, script, source, model, kind, message):
    with pytest.raises(kind, match=message):
        client.batches.run(source, model=model)
    assert script.requests == []


def test_a_run_after_a_crash_finds_its_batch_and_makes_none(user, live):
    first = user.batches.submit(_texts(100), model="echo")
    # The process died here, and the next one begins anew.
    found = list(user.batches.run(_texts(100), model="echo"))
    assert [one.output for one in found] == _texts(100)
    assert list(live.batches.batches) == [first.id]
    assert live.batches.uploads == 1
    assert user.batches.submit(_texts(100), model="echo").status == "completed"


def test_the_same_content_under_another_name_is_the_same_batch(user, live, tmp_path):
    content = jsonl(_texts(3))
    for name in ("monday.jsonl", "tuesday.jsonl"):
        (tmp_path / name).write_bytes(content)
    sources = ("monday.jsonl", "tuesday.jsonl", io.BytesIO(content))
    assert len({user.batches.submit(source, model="echo").id for source in sources}) == 1
    assert live.batches.uploads == 1


def test_other_content_options_or_key_make_another_batch(user, live):
    user.batches.submit(_texts(2), model="echo")
    user.batches.submit(_texts(3), model="echo")
    user.batches.submit(_texts(2), model="echo", metadata={"a": "b"})
    user.batches.submit(_texts(2), model="echo", idempotency_key="again")
    assert len(live.batches.batches) == 4


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "cancelling"])
def test_a_batch_that_ended_badly_is_not_gone_on_with(user, live, status):
    ids = []
    for _ in range(2):
        ids.append(user.batches.submit(_texts(2), model="echo").id)
        live.batches.batches[ids[-1]]["status"] = status
    found = user.batches.submit(_texts(2), model="echo")
    assert found.id not in ids
    assert user.batches.submit(_texts(2), model="echo") == found
    assert live.batches.uploads == 1


def test_an_input_file_that_was_deleted_is_sent_again(user, live):
    for _ in range(2):
        made = user.batches.submit(_texts(2), model="echo")
        user.files.delete(made.input_file_id)
    assert len(live.batches.batches) == 2
    assert live.batches.uploads == 2


def test_a_lost_answer_makes_no_second_batch(client, script):
    script.then(Reply(body={"id": "file_1", "object": "file"}), Reply(drop=True))
    script.then(Reply(body=batch(), headers={"Idempotent-Replayed": "true"}))
    script.then(Reply(body=batch("in_progress")))
    assert client.batches.submit(_texts(2), model="echo").status == "in_progress"
    lost, again = script.requests[1:3]
    assert lost.headers["Idempotency-Key"] == again.headers["Idempotency-Key"]


def test_a_refused_file_is_an_error_with_the_first_wrong_lines(user):
    source = io.BytesIO(b'{"text": 1}\n' + b"{\n" * 5)
    with pytest.raises(BatchFailed) as caught:
        user.batches.run(source, model="echo")
    message = str(caught.value)
    assert message.startswith(
        f"{caught.value.batch.id} failed: line 2: invalid_json_line: is not JSON; line 3:"
    )
    assert message.endswith("; and 2 more")
    assert [one.line for one in caught.value.batch.errors()] == [2, 3, 4, 5, 6]


def test_skipped_lines_and_failed_jobs_are_results_that_are_not_ok(user):
    source = io.BytesIO(b'{"text": 1}\n{\n{"fail": true}\n')
    found = list(user.batches.run(source, model="echo", on_invalid="skip"))
    assert [(one.custom_id, one.ok) for one in found] == [("1", True), (None, False), ("3", False)]
    (made,) = user.batches.list()
    assert [one.error["code"] for one in user.batches.errors(made.id)] == ["invalid_json_line", "model_error"]
    again = made.retry()
    assert again.retry_of == made.id
    assert [one.custom_id for one in again.wait().results()] == [None, "3"]


@pytest.mark.parametrize(("status", "kind"), [("cancelled", BatchCancelled), ("expired", BatchExpired)])
def test_what_ended_early_says_so_after_its_last_result(client, script, status, kind):
    ended = batch(status, counts={"succeeded": 1, "canceled": 2})
    script.then(Reply(body={"id": "file_1", "object": "file"}), Reply(body=ended))
    script.then(Reply(body=jsonl([result("1", {})])))
    results = client.batches.run(_texts(3), model="echo")
    assert next(results).ok
    with pytest.raises(kind, match=f"{status}: 2 of its jobs did not run") as caught:
        next(results)
    assert caught.value.batch.status == status


def test_errors_of_a_batch_without_an_error_file(client, script):
    failed = batch("failed", errors=errors(bad(None, "empty_file", "the file has no lines")), invalid=0)
    script.then(*[Reply(body=failed)] * 2)
    (only,) = client.batches.errors("batch_1")
    assert (only.id, only.line, only.error["code"]) == ("", None, "empty_file")
    script.then(*[Reply(body=batch("in_progress"))] * 2)
    failing = result("b", error={"code": "x", "message": "y"}, number=2)
    script.then(Reply(body=jsonl([result("a"), failing])))
    assert [one.custom_id for one in client.batches.errors("batch_1")] == ["b"]


def test_a_dry_run_has_an_estimate_and_no_results(user):
    checked = user.batches.submit(_texts(5), model="echo", dry_run=True).wait()
    assert checked.estimate == {"valid": 5, "invalid": 0, "models": {"echo": 5}, "seconds": 1.5}
    with pytest.raises(TypeError, match="no results"):
        user.batches.run(_texts(5), model="echo", dry_run=True)


def test_cancel_is_by_id_or_by_the_batch(user):
    made = user.batches.submit(_texts(2), model="echo")
    assert user.batches.cancel(made.id).status == "cancelled"
    assert made.refresh().done
    assert made.cancel().status == "cancelled"


def test_retry_of_what_has_not_ended_is_a_conflict(client, script):
    script.then(problem(409, "batch_not_ended"))
    with pytest.raises(ConflictError):
        client.batches.retry("batch_1")
    assert script.requests[0].headers["Idempotency-Key"]


def test_lines_are_never_held_as_a_whole(tmp_path):
    with open(tmp_path / "in.jsonl", "wb") as file:
        for _ in range(300):
            file.write(json.dumps({"text": "x" * 100_000}).encode() + b"\n")
    tracemalloc.start()
    with open(tmp_path / "in.jsonl", "rb") as file, written(lines.of_file(file, "echo", "/v1/jobs")) as made:
        assert made.seek(0, io.SEEK_END) > 30_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
