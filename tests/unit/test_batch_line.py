"""A line of a batch's file: what it becomes, and the one thing that is said of a wrong one."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from app.db.ingest import NewItem
from app.domain.egress import EgressPolicy
from app.domain.media import MediaPolicy
from app.domain.model import ModelSpec, ModelVersion
from app.errors import FieldError, Invalid
from app.intake.batch_line import LineReader, Versions, WrongLine
from app.intake.catalogue import Listed, list_version
from app.intake.lines import RawLine, lines
from app.intake.source import spec_of
from tests.support.models import ECHO_SPEC, EXAMPLES

LIMIT = 2000


def _listed(number: int, spec: ModelSpec) -> Listed:
    return list_version(ModelVersion(number, spec), MediaPolicy())


class Models:
    """A catalogue of `echo` and `minilm`."""

    def __init__(self) -> None:
        self.listed = {
            "echo": _listed(1, ECHO_SPEC),
            "minilm": _listed(2, spec_of(f"{EXAMPLES / 'minilm.py'}:MiniLM")),
        }

    def resolve(self, model: str, version: str | None) -> Listed:
        name = model.partition("@")[0]
        if name not in self.listed:
            raise Invalid(
                "unknown_model", "there is no such model", [FieldError("/model", "unknown_model", "no")]
            )
        if version not in (None, "1"):
            raise Invalid("unknown_version", "none", [FieldError("/version", "unknown_version", "no")])
        return self.listed[name]

    def by_id(self, version_id: int) -> Listed:
        return next(one for one in self.listed.values() if one.version.id == version_id)


def reader(endpoint: str = "/v1/jobs", **options: Any) -> LineReader:
    versions = Versions(Models())  # type: ignore[arg-type]
    return LineReader(endpoint, versions, EgressPolicy(), max_bytes=LIMIT, max_depth=20, **options)


def raw(value: Any, number: int = 1) -> RawLine:
    text = value if isinstance(value, bytes) else orjson.dumps(value)
    return RawLine(number, len(text), text)


def job(**changes: Any) -> dict[str, Any]:
    body = {"model": "echo", "input": {"n": 1}, **changes.pop("body", {})}
    return {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": body, **changes}


def embedding(**body: Any) -> dict[str, Any]:
    asked = {"model": "minilm", "input": "some text", **body}
    return {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": asked}


def refused(value: Any, endpoint: str = "/v1/jobs") -> tuple[str, str | None]:
    with pytest.raises(WrongLine) as caught:
        reader(endpoint).read(raw(value))
    return caught.value.code, caught.value.param


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        (b"{nope", "invalid_json_line", None),
        (b'"text"', "invalid_json_line", None),
        (b'{"custom_id":"\xff"}', "invalid_json_line", None),
        (b'{"custom_id":"a","body":{"input":NaN}}', "invalid_json_line", "/body/input"),
        (b'{"custom_id":"a","body":{"input":123456789012345678901}}', "invalid_json_line", "/body/input"),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", "invalid_json_line", None),
        ({"method": "POST"}, "missing_custom_id", "/custom_id"),
        (job(custom_id=None), "missing_custom_id", "/custom_id"),
        (job(custom_id=7), "invalid_custom_id", "/custom_id"),
        (job(custom_id=""), "invalid_custom_id", "/custom_id"),
        (job(custom_id="x" * 513), "invalid_custom_id", "/custom_id"),
        (job(custom_id="a\0b"), "invalid_custom_id", "/custom_id"),
        (job(method="GET"), "invalid_method", "/method"),
        (job(method=["POST"]), "invalid_method", "/method"),
        (job(url="/v1/chat/completions"), "invalid_url", "/url"),
        (job(url=["/v1/jobs"]), "invalid_url", "/url"),
        (job(url="/v1/embeddings"), "url_mismatch", "/url"),
        (job(extra=1), "invalid_request", "/extra"),
        ({**job(), "body": None}, "invalid_request", "/body"),
        ({key: value for key, value in job().items() if key != "body"}, "invalid_request", "/body"),
        (job(body={"model": "nobody"}), "unknown_model", "/body/model"),
        (job(body={"version": "9"}), "unknown_version", "/body/version"),
        (job(body={"input": {"sleep_ms": "long"}}), "invalid_input", "/body/input/sleep_ms"),
        (job(body={"priority": "now"}), "invalid_request", "/body/priority"),
        (job(body={"webhook": "https://10.0.0.1/x"}), "invalid_request", "/body/webhook"),
        (job(body={"colour": "red"}), "invalid_request", "/body/colour"),
    ],
)
def test_a_wrong_line_is_named_by_code_and_place(value: Any, code: str, param: str | None) -> None:
    assert refused(value) == (code, param)


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        (embedding(model="nobody"), "unknown_model", "/body/model"),
        (embedding(model="echo"), "model_does_not_embed", "/body/model"),
        (embedding(input=[]), "invalid_request", "/body/input"),
        (embedding(input=["a", 7]), "invalid_request", "/body/input/1"),
        (embedding(input=[1, 2]), "invalid_request", "/body/input"),
        (embedding(dimensions=7), "invalid_request", "/body/dimensions"),
        (embedding(encoding_format="hex"), "invalid_request", "/body/encoding_format"),
        (job(), "url_mismatch", "/url"),
    ],
)
def test_a_wrong_line_of_embeddings_is_named_too(value: Any, code: str, param: str | None) -> None:
    assert refused(value, "/v1/embeddings") == (code, param)


def test_a_second_use_of_a_custom_id_names_the_first_line() -> None:
    read = reader()
    read.read(raw(job(), 3))
    for custom_id, number in (("a", 9), ("long" * 100, 10)):
        if number == 10:
            read.read(raw(job(custom_id=custom_id), 4))
        with pytest.raises(WrongLine, match=f"line {3 if number == 9 else 4} has the same") as caught:
            read.read(raw(job(custom_id=custom_id), number))
        assert (caught.value.code, caught.value.custom_id) == ("duplicate_custom_id", custom_id)


def test_a_job_keeps_what_its_line_asks_for() -> None:
    asked = job(
        body={
            "priority": "low",
            "policy": {"queue_ttl_s": 60, "execution_timeout_s": 5},
            "retry": {"max_attempts": 7},
            "metadata": {"k": "v"},
            "use_case": "search",
            "webhook": "https://example.com/hook",
        }
    )
    (made,) = reader().read(raw(asked)).jobs()
    assert (made.priority, made.queue_ttl_s, made.execution_timeout_s, made.max_attempts) == (2, 60, 5, 7)
    assert (made.metadata, made.use_case, made.custom_id) == ({"k": "v"}, "search", "a")
    assert (made.webhook, made.webhook_events, made.encoding) == (
        "https://example.com/hook",
        ("completed",),
        None,
    )
    assert made.input == b'{"n":1}'


def test_each_text_of_an_embeddings_line_is_a_job() -> None:
    read = reader("/v1/embeddings").read(raw(embedding(input=["x", "y"], encoding_format="base64")))
    made: list[NewItem] = read.jobs()
    assert [one.input for one in made] == [b'{"text":"x"}', b'{"text":"y"}']
    assert {(one.custom_id, one.encoding, one.queue_ttl_s) for one in made} == {("a", "base64", None)}


def test_a_version_is_fixed_when_it_is_first_named() -> None:
    models = Models()
    versions = Versions(models)  # type: ignore[arg-type]
    assert versions.resolve("echo", None).version.id == 1
    assert versions.current == {"echo": 1}
    models.listed["echo"] = _listed(7, ECHO_SPEC)
    assert versions.resolve("echo", None).version.id == 1
    again = Versions(models, {"minilm": 2})  # type: ignore[arg-type]
    assert again.resolve("minilm", None).version.id == 2


def chunked(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


FILE = b"\xef\xbb\xbfone\r\n\n  \r\ntwo\n" + b"x" * 50 + b"\r\n" + b"y" * 51 + b"\n" + b"z" * 500 + b"\nlast"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_lines_are_the_same_however_the_file_is_cut(size: int) -> None:
    found = list(lines(chunked(FILE, size), 50))
    seen = [(one.number, None if one.text is None else one.text.strip()) for one in found]
    assert seen == [(1, b"one"), (4, b"two"), (5, b"x" * 50), (6, None), (7, None), (8, b"last")]
    assert found[-1].end == len(FILE)


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_reading_goes_on_after_any_line(size: int) -> None:
    whole = list(lines(chunked(FILE, size), 50))
    for index, one in enumerate(whole):
        assert list(lines(chunked(FILE[one.end :], size), 50, one.number + 1, one.end)) == whole[index + 1 :]


def test_a_line_too_long_is_never_held() -> None:
    def long() -> Iterable[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    (one,) = lines(long(), 5000)
    assert (one.text, one.end) == (None, 1_000_000)
    with pytest.raises(WrongLine) as caught:
        reader().read(one)
    assert caught.value.code == "line_too_large"


def test_an_empty_file_has_no_lines() -> None:
    assert list(lines([], 10)) == []
    assert list(lines([b"\xef\xbb\xbf"], 10)) == []
    assert list(lines([b"\n\r\n \n"], 10)) == []
