"""Bytes to JSON: what is refused, where it is said to stand, and that no body costs too much."""

import contextlib
import gzip
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid, Malformed, RequestError, TooLarge
from app.intake import unkept
from app.intake.json_body import check_depth, decompress, parse

DEPTH = 64
MEGABYTES_4 = 4 * 1024 * 1024

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@given(values)
def test_every_json_value_is_read_as_it_is(value: object) -> None:
    assert parse(orjson.dumps(value), DEPTH) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    code = None
    try:
        parse(body, DEPTH)
    except RequestError as error:
        code = error.code
    assert code in {None, "invalid_json", "invalid_utf8", "json_too_deep", "invalid_request"}


@given(values, st.integers(1, 6))
def test_depth_is_counted_as_a_parser_would(value: object, limit: int) -> None:
    def depth(part: object) -> int:
        if isinstance(part, dict):
            return 1 + max(map(depth, part.values()), default=0)
        if isinstance(part, list):
            return 1 + max(map(depth, part), default=0)
        return 0

    body = orjson.dumps(value)
    if depth(value) <= limit:
        check_depth(body, limit)
    else:
        with pytest.raises(Malformed, match="json_too_deep"):
            check_depth(body, limit)


@given(st.integers())
def test_an_integer_is_kept_exactly_or_refused(value: int) -> None:
    body = b'{"n":%d}' % value
    if -(2**63) <= value < 2**64:
        assert parse(body, DEPTH) == {"n": value}
    else:
        with pytest.raises(Invalid) as refused:
            parse(body, DEPTH)
        assert refused.value.errors[0].pointer == "/n"


@pytest.mark.parametrize(
    "text", ["1e-12345678901234567890", "0.12345678901234567890123", "1234567890123456789.5", "1e300"]
)
def test_long_digits_that_are_no_integer_are_fine(text: str) -> None:
    assert parse(text.encode(), DEPTH) == float(text)


def test_places_in_a_large_body_are_not_looked_for() -> None:
    long = b"[%b18446744073709551616]" % (b"1," * unkept.LARGE)
    with pytest.raises(Invalid) as refused:
        parse(long, DEPTH)
    assert [error.pointer for error in refused.value.errors] == [""]


def test_at_most_a_hundred_places_are_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse(b"[" + b"NaN," * 500 + b"1]", DEPTH)
    assert len(refused.value.errors) == 100


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * (MEGABYTES_4 // 2) + b"[" * 100,
        b"[" * MEGABYTES_4,
        b"[" + (b"[" * 60 + b"]" * 60 + b",") * (MEGABYTES_4 // 121) + b"1]",
        b"[" + b"1," * (MEGABYTES_4 // 2) + b"NaN]",
        b"[" + b'"\\ud800",' * (MEGABYTES_4 // 9) + b"1]",
        b"1" * MEGABYTES_4,
        b'"' + b"\\" * MEGABYTES_4,
        b"[" + b"1234567890123456789012," * (MEGABYTES_4 // 23) + b"1]",
    ],
    ids=[
        "escaped quotes",
        "opening",
        "deep rows",
        "NaN last",
        "surrogates",
        "digits",
        "backslashes",
        "big integers",
    ],
)
def test_a_hostile_body_is_done_with_in_seconds(body: bytes) -> None:
    """Linear, that is: what is quadratic takes hours with four megabytes."""
    began = time.process_time()
    with contextlib.suppress(RequestError):
        parse(body, DEPTH)
    assert time.process_time() - began < 5


def test_a_bomb_is_stopped_before_it_is_large() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)
    with pytest.raises(TooLarge):
        decompress(bomb, "gzip", 1000)


@given(st.binary(max_size=500))
def test_gzip_is_undone(body: bytes) -> None:
    assert decompress(gzip.compress(body), "gzip", 500) == body


@given(st.lists(st.integers(0, 99) | texts))
def test_a_pointer_can_be_read_back(path: list[str | int]) -> None:
    text = unkept.pointer(path)
    if len(text) < 1000:
        back = [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]
        assert back == [str(step) for step in path]
