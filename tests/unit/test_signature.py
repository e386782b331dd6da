"""Signatures of webhooks: what we sign, the official library of Standard Webhooks accepts."""

import base64
import time
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.domain.signature import new_secret, sign

ID, BODY = "dlv_" + "0" * 32, b'{"type":"job.completed"}'


def now() -> int:
    return int(time.time())


def test_a_secret_is_32_random_bytes_in_base64() -> None:
    prefix, _, text = new_secret().partition("_")
    assert prefix == "whsec"
    assert len(base64.b64decode(text, validate=True)) == 32
    assert len({new_secret() for _ in range(100)}) == 100


@given(st.dictionaries(st.text(), st.text() | st.integers(), max_size=3))
def test_the_official_library_accepts_what_we_sign(data: dict[str, str | int]) -> None:
    secret, body = new_secret(), orjson.dumps({"data": {k: str(v) for k, v in data.items()}})
    assert Webhook(secret).verify(body, sign(ID, now(), body, [secret])) == orjson.loads(body)


def test_it_signs_exactly_as_the_official_library() -> None:
    secret, moment = new_secret(), now()
    theirs = Webhook(secret).sign(ID, datetime.fromtimestamp(moment, UTC), BODY.decode())
    assert sign(ID, moment, BODY, [secret])["webhook-signature"] == theirs


def test_the_vector_that_the_reference_libraries_share() -> None:
    headers = sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_during_a_rotation_either_secret_verifies() -> None:
    new, old = new_secret(), new_secret()
    headers = sign(ID, now(), BODY, [new, old])
    assert [one.partition(",")[0] for one in headers["webhook-signature"].split(" ")] == ["v1", "v1"]
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, BODY + b" "),
        ({"webhook-id": ID[:-1] + "1"}, BODY),
        ({"webhook-timestamp": str(now() - 1)}, BODY),
    ],
)
def test_whatever_is_changed_on_the_way_is_noticed(changed: dict[str, str], body: bytes) -> None:
    secret = new_secret()
    headers = sign(ID, now(), BODY, [secret]) | changed
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_an_old_signature_is_not_accepted_again() -> None:
    secret = new_secret()
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, sign(ID, now() - 600, BODY, [secret]))
