"""Requests that are wrong: each is refused by its own code, names the place, and writes nothing."""

import gzip
import zlib
from typing import Any

import orjson
import pytest

from tests.integration.api.client import Api

GOOD = {"model": "echo", "input": {}}


def refused(api: Api, answer: Any, status: int, code: str, *pointers: str) -> dict[str, Any]:
    """The problem, which is what it should be; and nothing was written."""
    problem: dict[str, Any] = orjson.loads(answer.data)
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.mimetype == "application/problem+json"
    assert [error["pointer"] for error in problem["errors"]] == list(pointers), problem
    assert problem["error"]["code"] == code
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert api.jobs_written() == 0
    return problem


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"{'model':'echo'}", 400, "invalid_json"),
        (b'{"model":"echo","input":{}}{}', 400, "invalid_json"),
        (b'\xef\xbb\xbf{"model":"echo","input":{}}', 400, "invalid_json"),
        (b'{"model":"echo","input":{"t":"\xff"}}', 400, "invalid_utf8"),
        (b'{"model":"echo","input":{"t":"\xed\xa0\x80"}}', 400, "invalid_utf8"),
        (b'{"model":"echo","input":{"t":"a\nb"}}', 400, "invalid_json"),
        (b'{"model":"echo","input":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", 400, "json_too_deep"),
        (b"[" * 90_000, 400, "json_too_deep"),
        (b'"' + b'\\"' * 40_000 + b"[" * 40, 400, "invalid_json"),
        (b'{"model":"echo","input":{"t":"' + b"x" * 100_000 + b'"}}', 413, "body_too_large"),
    ],
    ids=[
        "empty",
        "cut",
        "single quotes",
        "two values",
        "byte order mark",
        "bad utf-8",
        "utf-8 surrogate",
        "raw newline",
        "deep",
        "deep and unbalanced",
        "a string that never ends",
        "large",
    ],
)
def test_a_body_that_cannot_be_read(reader: Api, body: bytes, status: int, code: str) -> None:
    refused(reader, reader.send(body), status, code)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"NaN", "number_out_of_range"),
        (b"Infinity", "number_out_of_range"),
        (b"-Infinity", "number_out_of_range"),
        (b"1e400", "number_out_of_range"),
        (b"18446744073709551616", "number_out_of_range"),
        (b"-9223372036854775809", "number_out_of_range"),
        (b"1" * 5000, "number_out_of_range"),
        (b'"\\ud800"', "invalid_unicode"),
        (b'"\\udc00\\ud800"', "invalid_unicode"),
    ],
)
def test_a_value_that_would_change_on_the_way(reader: Api, value: bytes, code: str) -> None:
    answer = reader.send(b'{"model":"echo","input":{"list":[1,%b]}}' % value)
    problem = refused(reader, answer, 422, "invalid_request", "/input/list/1")
    assert problem["errors"][0]["code"] == code
    assert problem["error"]["param"] == "input.list.1"


def test_a_key_with_a_lone_surrogate(reader: Api) -> None:
    answer = reader.send(b'{"model":"echo","input":{"\\ud800":1}}')
    refused(reader, answer, 422, "invalid_request", "/input")


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"model": None}, "/model", "wrong_type"),
        ({"model": 5}, "/model", "wrong_type"),
        ({"model": ""}, "/model", "too_short"),
        ({"model": "x" * 300}, "/model", "too_long"),
        ({"model": "echo\0"}, "/model", "invalid_text"),
        ({"version": 1}, "/version", "wrong_type"),
        ({"inputs": {}}, "/inputs", "unknown_field"),
        ({"a/b~c": {}}, "/a~1b~0c", "unknown_field"),
        ({"priority": "urgent"}, "/priority", "not_allowed"),
        ({"priority": 1}, "/priority", "not_allowed"),
        ({"policy": {"queue_ttl_s": 0}}, "/policy/queue_ttl_s", "out_of_range"),
        ({"policy": {"queue_ttl_s": "60"}}, "/policy/queue_ttl_s", "wrong_type"),
        ({"policy": {"queue_ttl_s": True}}, "/policy/queue_ttl_s", "wrong_type"),
        ({"policy": {"queue_ttl_s": 1e12}}, "/policy/queue_ttl_s", "out_of_range"),
        ({"policy": {"execution_timeout_s": -1}}, "/policy/execution_timeout_s", "out_of_range"),
        ({"policy": {"ttl": 1}}, "/policy/ttl", "unknown_field"),
        ({"policy": []}, "/policy", "wrong_type"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts", "out_of_range"),
        ({"retry": {"max_attempts": 1.5}}, "/retry/max_attempts", "wrong_type"),
        ({"retry": {"max_attempts": 99}}, "/retry/max_attempts", "out_of_range"),
        ({"retry": {"max_delay_ms": -1}}, "/retry/max_delay_ms", "out_of_range"),
        ({"metadata": []}, "/metadata", "wrong_type"),
        ({"metadata": "k=v"}, "/metadata", "wrong_type"),
        ({"metadata": {"k": 1}}, "/metadata/k", "wrong_type"),
        ({"metadata": {"k": "\0"}}, "/metadata/k", "invalid_text"),
        ({"metadata": {"k\0": ""}}, "/metadata", "too_long"),
        ({"metadata": {"k" * 65: ""}}, "/metadata", "too_long"),
        ({"metadata": {"k": "v" * 513}}, "/metadata", "too_long"),
        ({"metadata": {str(n): "" for n in range(17)}}, "/metadata", "too_long"),
        ({"use_case": "\0"}, "/use_case", "invalid_text"),
        ({"use_case": "x" * 129}, "/use_case", "too_long"),
        ({"webhook": "http://example.com/"}, "/webhook", "invalid_url"),
        ({"webhook": "ftp://example.com/"}, "/webhook", "invalid_url"),
        ({"webhook": "https://"}, "/webhook", "invalid_url"),
        ({"webhook": "https:example.com"}, "/webhook", "invalid_url"),
        ({"webhook": "https://user:secret@example.com/"}, "/webhook", "invalid_url"),
        ({"webhook": "https://example.com/#x"}, "/webhook", "invalid_url"),
        ({"webhook": "https://example.com:99999/"}, "/webhook", "invalid_url"),
        ({"webhook": "https://exa mple.com/"}, "/webhook", "invalid_url"),
        ({"webhook": "https://example.com/\r\nX: y"}, "/webhook", "invalid_url"),
        ({"webhook": "https://example.com/ä"}, "/webhook", "invalid_url"),
        ({"webhook": "https://example.com/" + "x" * 2048}, "/webhook", "too_long"),
        ({"webhook_events_filter": ["output"]}, "/webhook_events_filter/0", "not_allowed"),
        ({"webhook_events_filter": "completed"}, "/webhook_events_filter", "wrong_type"),
    ],
)
def test_a_member_that_is_wrong_is_named(
    reader: Api, changes: dict[str, Any], pointer: str, code: str
) -> None:
    problem = refused(reader, reader.post("/v1/jobs", json=GOOD | changes), 422, "invalid_request", pointer)
    assert problem["errors"][0]["code"] == code
    assert problem["errors"][0]["message"]


def test_every_wrong_member_is_named_at_once(reader: Api) -> None:
    body = {"model": 1, "priority": "now", "retry": {"max_attempts": 0}, "extra": 1}
    answer = reader.post("/v1/jobs", json=body)
    problem = orjson.loads(answer.data)
    assert {error["pointer"] for error in problem["errors"]} == {
        "/model",
        "/input",
        "/priority",
        "/retry/max_attempts",
        "/extra",
    }
    assert reader.jobs_written() == 0


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"[[[]]]"])
def test_a_body_that_is_no_object(reader: Api, body: bytes) -> None:
    refused(reader, reader.send(body), 422, "invalid_request", "")


def test_a_body_of_far_too_many_members(reader: Api) -> None:
    body = {f"member {n}": n for n in range(2000)}
    refused(reader, reader.post("/v1/jobs", json=body), 422, "invalid_request", "")


@pytest.mark.parametrize(
    ("named", "code", "pointer"),
    [
        ({"model": "nope"}, "unknown_model", "/model"),
        ({"model": "nope", "version": "1"}, "unknown_model", "/model"),
        ({"model": "nope@1"}, "unknown_model", "/model"),
        ({"model": "../etc/passwd"}, "unknown_model", "/model"),
        ({"model": "ECHO"}, "unknown_model", "/model"),
        ({"model": "echo@"}, "unknown_version", "/model"),
        ({"model": "echo@nope"}, "unknown_version", "/model"),
        ({"model": "echo", "version": "nope"}, "unknown_version", "/version"),
        ({"model": "echo@1", "version": "2"}, "version_mismatch", "/version"),
    ],
)
def test_a_model_or_version_that_is_not_there(
    reader: Api, named: dict[str, str], code: str, pointer: str
) -> None:
    refused(reader, reader.post("/v1/jobs", json={"input": {}, **named}), 422, code, pointer)


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ({}, ["/input"]),
        ([], ["/input"]),
        (None, ["/input"]),
        ({"text": 5}, ["/input/text"]),
        ({"text": "much too long"}, ["/input/text"]),
        ({"text": "x", "other": 1}, ["/input"]),
        ({"text": 5, "count": -1, "a/b~c": [1, "2", 3, None]}, None),
    ],
)
def test_an_input_that_does_not_fit_the_schema(reader: Api, value: Any, pointers: list[str] | None) -> None:
    answer = reader.post("/v1/jobs", json={"model": "strict", "input": value})
    if pointers is None:
        found = {error["pointer"] for error in orjson.loads(answer.data)["errors"]}
        assert found == {"/input/text", "/input/count", "/input/a~1b~0c/1", "/input/a~1b~0c/3"}
        assert (answer.status_code, reader.jobs_written()) == (422, 0)
    else:
        refused(reader, answer, 422, "invalid_input", *pointers)


def test_an_input_with_another_field_is_told_which_there_are(reader: Api) -> None:
    answer = reader.post("/v1/jobs", json={"model": "strict", "input": {"text": "a", "txt": 1}})
    (error,) = answer.json["errors"]
    assert (error["pointer"], error["code"]) == ("/input", "unknown_field")
    assert error["message"].endswith("; the input has text, count, a/b~c")


def test_messages_do_not_repeat_the_input(reader: Api) -> None:
    answer = reader.post("/v1/jobs", json={"model": "strict", "input": {"text": "my secret diary"}})
    assert "diary" not in answer.text.replace("my secret diary", "", 0)


def test_a_large_hostile_input_names_its_first_error_quickly(reader: Api) -> None:
    hostile = {"text": "x", "a/b~c": ["x"] * 15_000}
    answer = reader.post("/v1/jobs", json={"model": "strict", "input": hostile})
    refused(reader, answer, 422, "invalid_input", "/input/a~1b~0c/0")


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "multipart/form-data",
    ],
)
def test_a_body_that_is_not_json_by_its_type(reader: Api, kind: str) -> None:
    answer = reader.send(orjson.dumps(GOOD), Content_Type=kind)
    refused(reader, answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
def test_an_encoding_we_do_not_read(reader: Api, encoding: str) -> None:
    answer = reader.send(orjson.dumps(GOOD), Content_Encoding=encoding)
    refused(reader, answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip",
        gzip.compress(orjson.dumps(GOOD))[:-4],
        gzip.compress(orjson.dumps(GOOD)) + b"more",
        gzip.compress(b"x")[:5],
        zlib.compress(orjson.dumps(GOOD)),
    ],
    ids=["not gzip", "cut", "followed", "header only", "zlib"],
)
def test_a_body_that_is_not_gzip_as_it_says(reader: Api, body: bytes) -> None:
    refused(reader, reader.send(body, Content_Encoding="gzip"), 400, "invalid_encoding")


def test_a_gzip_bomb_is_stopped_at_the_limit(reader: Api) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    refused(reader, reader.send(bomb, Content_Encoding="gzip"), 413, "body_too_large")


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_an_idempotency_key_that_is_none(reader: Api, key: str) -> None:
    answer = reader.post("/v1/jobs", json=GOOD, headers={"Idempotency-Key": key.encode().decode("latin-1")})
    refused(reader, answer, 400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    "prefer", ["wait=abc", "wait=-1", "wait=61", "wait=1.5", "wait=", "wait=99999999999"]
)
def test_a_wait_that_is_none(reader: Api, prefer: str) -> None:
    refused(reader, reader.post("/v1/jobs", json=GOOD, headers={"Prefer": prefer}), 400, "invalid_prefer")
