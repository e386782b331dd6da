"""Receiving: what is believed, what is not and why, against the reference implementation."""

import base64
import json
import pickle
from datetime import UTC, datetime, timedelta

import headrace
import pytest
from headrace import WebhookVerificationError, webhooks
from headrace.webhooks import sign, verify
from standardwebhooks import Webhook
from webhook_testkit import body, new_secret, signed
from werkzeug.datastructures import EnvironHeaders, Headers

NOW = 1_769_860_800
SECRET = new_secret()
BODY = body(id="job_1", status="succeeded", output={"text": "grüße ☃"})


def _reason(headers, payload=BODY, secret=SECRET, **options):
    with pytest.raises(WebhookVerificationError) as caught:
        verify(headers, payload, secret, **({"now": NOW} | options))
    return caught.value.reason


def _signed(*secrets, payload=BODY, at=NOW):
    return signed(secrets or (SECRET,), payload, at=at)


def test_it_is_there_under_both_names():
    assert headrace.webhooks.verify is verify
    assert webhooks.WebhookVerificationError is headrace.WebhookVerificationError


def test_what_the_reference_signs_is_believed():
    event = verify(_signed(), BODY, SECRET, now=NOW)
    assert (event.id, event.type) == ("dlv_1", "job.completed")
    assert event.timestamp == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert event.data == {"id": "job_1", "status": "succeeded", "output": {"text": "grüße ☃"}}
    assert event.raw == json.loads(BODY)
    assert repr(event) == "WebhookEvent('dlv_1', 'job.completed')"


def test_what_we_sign_the_reference_believes():
    at = datetime.now(UTC)
    headers = {
        "webhook-id": "dlv_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign("dlv_1", at, BODY, SECRET),
    }
    assert Webhook(SECRET).verify(BODY, headers) == json.loads(BODY)
    assert verify(headers, BODY, SECRET).id == "dlv_1"


def test_the_vector_of_the_reference_implementations():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', secret)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_the_body_may_be_bytes_or_text(kind):
    assert verify(_signed(), kind(BODY), SECRET, now=NOW)


@pytest.mark.parametrize("parsed", [json.loads(BODY), None, 7])
def test_a_parsed_body_is_refused_with_advice(parsed):
    with pytest.raises(TypeError, match="bytes as they were received"):
        verify(_signed(), parsed, SECRET, now=NOW)


def _environ(headers):
    return {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    "shape",
    [
        dict,
        lambda headers: {name.title(): value for name, value in headers.items()},
        lambda headers: {name.upper(): value for name, value in headers.items()},
        lambda headers: list(headers.items()),
        lambda headers: [(name.encode(), value.encode()) for name, value in headers.items()],
        lambda headers: iter(headers.items()),
        Headers,
        _environ,
        lambda headers: EnvironHeaders(_environ(headers)),
        lambda headers: {"wsgi.version": (1, 0), "X": None, 7: 8} | _environ(headers),
    ],
    ids=["dict", "Title", "UPPER", "pairs", "ASGI", "iterator", "werkzeug", "WSGI", "Flask", "mixed"],
)
def test_headers_may_have_any_shape(shape):
    assert verify(shape(_signed()), BODY, SECRET, now=NOW).id == "dlv_1"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_header_is_named(name, value):
    headers = _signed() | {name: value}
    if value is None:
        del headers[name]
    with pytest.raises(WebhookVerificationError, match=f"missing_header: without {name}:"):
        verify(headers, BODY, SECRET, now=NOW)


def test_any_changed_byte_is_noticed():
    for place in range(len(BODY)):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert _reason(_signed(), changed) == "wrong_signature"
    assert _reason(_signed(), BODY + b" ") == "wrong_signature"
    assert _reason(_signed(), json.dumps(json.loads(BODY), indent=1)) == "wrong_signature"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_the_headers_are_signed_too(name):
    headers = _signed()
    headers[name] = headers[name][:-1] + "7"
    assert _reason(headers) == "wrong_signature"


def test_another_secret_is_noticed():
    assert _reason(_signed(new_secret())) == "wrong_signature"


def test_no_error_holds_the_secret_or_the_right_signature():
    right = _signed()["webhook-signature"]
    with pytest.raises(WebhookVerificationError) as caught:
        verify(_signed(new_secret()), BODY, SECRET, now=NOW)
    told = f"{caught.value!r} {caught.value} {caught.value.__dict__}"
    assert SECRET.removeprefix("whsec_") not in told
    assert right.removeprefix("v1,") not in told


@pytest.mark.parametrize("seconds", [0, 299, 300])
@pytest.mark.parametrize("sign_of", [1, -1])
def test_within_the_tolerance_both_ways(seconds, sign_of):
    assert verify(_signed(at=NOW - sign_of * seconds), BODY, SECRET, now=NOW)


@pytest.mark.parametrize(("at", "reason"), [(NOW - 301, "too_old"), (NOW + 301, "too_new")])
def test_beyond_the_tolerance_both_ways(at, reason):
    assert _reason(_signed(at=at)) == reason
    assert verify(_signed(at=at), BODY, SECRET, now=NOW, tolerance_s=301)
    assert verify(_signed(at=at), BODY, SECRET, now=datetime.fromtimestamp(at, UTC))


def test_now_is_now_unless_given():
    day = timedelta(days=1)
    now = datetime.now(UTC)
    assert verify(_signed(at=int(now.timestamp())), BODY, SECRET)
    for moment, reason in ((now - day, "too_old"), (now + day, "too_new")):
        assert _reason(_signed(at=int(moment.timestamp())), now=None) == reason


def test_a_tolerance_that_is_no_number_lets_nothing_through():
    assert _reason(_signed(at=1), tolerance_s=float("nan")) == "too_old"


@pytest.mark.parametrize("value", ["soon", "1e9", "-1", "1769860800.5", "１７６９８６０８００", "9" * 13])
def test_a_timestamp_that_is_none_is_named(value):
    assert _reason(_signed() | {"webhook-timestamp": value}) == "invalid_timestamp"


def test_during_a_rotation_either_secret_will_do():
    old, new = new_secret(), new_secret()
    both = _signed(new, old)
    assert both["webhook-signature"].count("v1,") == 2
    for secret in (old, new, [old, new], (new_secret(), old)):
        assert verify(both, BODY, secret, now=NOW)
    assert verify(_signed(new), BODY, [old, new], now=NOW)
    assert _reason(_signed(new), secret=old) == "wrong_signature"


def test_other_schemes_are_passed_over():
    headers = _signed()
    right = headers["webhook-signature"]
    for noise in (
        f"v1a,{'A' * 88} {right}",
        f"{right} v2,x",
        f"v1,ü☃ {right}",
        f"v1, {right}",
        f" {right} ,",
    ):
        assert verify(headers | {"webhook-signature": noise}, BODY, SECRET, now=NOW)
    for alone in (right.replace("v1,", "v1a,"), right.removeprefix("v1,"), "v1", ","):
        assert _reason(headers | {"webhook-signature": alone}) == "no_signature"


@pytest.mark.parametrize("alone", ["v1,", "v1,ü☃\udcff", "v1,====", "v1,v1,"])
def test_a_signature_that_is_none_is_a_wrong_one(alone):
    assert _reason(_signed() | {"webhook-signature": alone}) == "wrong_signature"


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        [],
        [""],
        "whsec_",
        "whsec_x",
        "whsec_" + "!" * 44,
        "whsec_" + "ü" * 44,
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        SECRET[:20] + "!!!!" + SECRET[20:],
        SECRET.removeprefix("whsec_"),
        "whpk_" + SECRET.removeprefix("whsec_"),
        [SECRET, "hr_key_secret-of-the-key"],
        SECRET.encode(),
    ],
    ids=lambda secret: type(secret).__name__,
)
def test_a_secret_that_can_not_be_one_is_our_own_fault_and_not_quoted(secret):
    with pytest.raises(ValueError, match="secret") as caught:
        verify(_signed(), BODY, secret, now=NOW)
    assert not isinstance(caught.value, headrace.HeadraceError)
    for given in [secret] if isinstance(secret, str) else secret or []:
        assert len(str(given)) < 8 or str(given) not in str(caught.value)


def test_a_secret_survives_how_people_copy():
    for copied in (f" {SECRET}\n", SECRET.rstrip("=")):
        assert verify(_signed(), BODY, copied, now=NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"\xff",
        b"[]",
        b'"x"',
        b"7",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"type":"x","data":{}}',
        b'{"type":"x","timestamp":"soon","data":{}}',
        b'{"type":7,"timestamp":"2026-01-31T12:00:00Z","data":{}}',
        b'{"type":"x","timestamp":"2026-01-31T12:00:00Z","data":[]}',
    ],
    ids=lambda payload: payload[:40].decode(errors="replace"),
)
def test_a_body_that_is_no_event_is_named_but_only_if_it_was_signed(payload):
    made = sign("dlv_1", NOW, payload, SECRET)
    headers = {"webhook-id": "dlv_1", "webhook-timestamp": str(NOW), "webhook-signature": made}
    assert _reason(headers, payload) == "invalid_body"
    assert _reason(headers | {"webhook-id": "dlv_2"}, payload) == "wrong_signature"


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(WebhookVerificationError("too_old", "sent 400 s ago")))
    assert (error.reason, error.detail, str(error)) == (
        "too_old",
        "sent 400 s ago",
        "too_old: sent 400 s ago",
    )
