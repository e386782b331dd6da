"""Receiving webhooks: is this request from your server, and is it as it was sent?

    from headrace import webhooks

    event = webhooks.verify(request.headers, request.get_data(), secret)

This is the Standard Webhooks scheme (https://www.standardwebhooks.com): an HMAC-SHA256 over
`id.timestamp.body`, with what stands in base64 after `whsec_` as the key. It needs no client.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from headrace.errors import WebhookVerificationError
from headrace.record import Record

__all__ = ["WebhookEvent", "WebhookVerificationError", "sign", "verify"]

_PREFIX = "whsec_"
# What the specification asks for at least. Anything shorter was not copied whole.
_SHORTEST_KEY = 24


class _Items(Protocol):
    def items(self) -> Iterable[tuple[Any, Any]]: ...


Headers: TypeAlias = _Items | Iterable[tuple[Any, Any]]
"""Whatever a framework calls headers: a mapping, pairs (bytes as in ASGI too), or a WSGI environ."""

Body: TypeAlias = bytes | bytearray | memoryview | str


class WebhookEvent(Record):
    """A verified webhook. `raw` is the whole body.

    Deliveries are made at least once: keep the `id` of those you have handled, and skip repeats.
    """

    def __init__(self, webhook_id: str, raw: dict[str, Any]) -> None:
        super().__init__(raw)
        self._id = webhook_id

    @property
    def id(self) -> str:
        """The `webhook-id` (`dlv_…`): one per event and receiver, the same over all tries."""
        return self._id

    @property
    def type(self) -> str:
        """What happened, such as `job.completed`. Answer 2xx to types you do not know."""
        return str(self._raw["type"])

    @property
    def timestamp(self) -> datetime:
        """When it happened, which may be long before this try."""
        return datetime.fromisoformat(self._raw["timestamp"])

    @property
    def data(self) -> dict[str, Any]:
        """What it happened to: for a job, what `GET /v1/jobs/{id}` shows.

        Above 20 kB input and output are left out: `client.jobs.get(event.data["id"])` has them.
        """
        data: dict[str, Any] = self._raw["data"]
        return data

    def __repr__(self) -> str:
        return f"WebhookEvent({self.id!r}, {self.type!r})"


def verify(
    headers: Headers,
    body: Body,
    secret: str | Sequence[str],
    *,
    tolerance_s: float = 300,
    now: float | datetime | None = None,
) -> WebhookEvent:
    """The event, once its signature and its age are checked.

    `body` is what was received, byte by byte: JSON that was parsed and written again differs.
    `secret` is the endpoint's `whsec_…`; with several, any of them will do. `now` is for tests.

    Raises `WebhookVerificationError`: answer 400. Raises `ValueError` if a `secret` can't be one:
    that is not the sender's fault, so let it be a 500, and the webhook will come again.

    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> body = b'{"type":"job.completed","timestamp":"2026-01-31T12:00:00Z","data":{"id":"job_1"}}'
    >>> headers = {
    ...     "webhook-id": "dlv_1",
    ...     "webhook-timestamp": "1769860800",
    ...     "webhook-signature": sign("dlv_1", 1769860800, body, secret),
    ... }
    >>> event = verify(headers, body, secret, now=1769860800)
    >>> event.type, event.data["id"]
    ('job.completed', 'job_1')
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret or ())]
    if not keys:
        raise ValueError("no webhook secret was given (whsec_…)")
    payload = _bytes(body)
    found = _wanted(headers)
    webhook_id, timestamp = found["webhook-id"], found["webhook-timestamp"]
    _check_age(timestamp, time.time() if now is None else _seconds(now), tolerance_s)
    _check_signature(found["webhook-signature"], [_digest(k, webhook_id, timestamp, payload) for k in keys])
    return WebhookEvent(webhook_id, _parsed(payload))


def sign(webhook_id: str, timestamp: int | datetime, body: Body, secret: str) -> str:
    """The `webhook-signature` that Headrace would send, for tests of your receiver.

    During a rotation there are two of them, separated by a space.
    """
    text = str(int(_seconds(timestamp)))
    return f"v1,{_digest(_key(secret), webhook_id, text, _bytes(body)).decode()}"


def _key(secret: str) -> bytes:
    # Never quoted: errors end up in logs.
    text = str(secret).strip()
    if not text.startswith(_PREFIX):
        raise ValueError("a webhook secret begins with whsec_; was it copied whole?")
    text = text.removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST_KEY:
        detail = f"at least {_SHORTEST_KEY} bytes in base64 follow whsec_"
        raise ValueError(f"that is no webhook secret: {detail}; was it copied whole?")
    return key


def _bytes(body: Body) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if not isinstance(body, (bytes, bytearray, memoryview)):
        kind = type(body).__name__
        raise TypeError(f"body must be the bytes as they were received, not a parsed {kind}")
    return bytes(body)


def _wanted(headers: Headers) -> dict[str, str]:
    """The three headers by their names in lower case; the first of each counts."""
    wanted: dict[str, str | None] = dict.fromkeys(("webhook-id", "webhook-timestamp", "webhook-signature"))
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        # WSGI and Django's META write HTTP_WEBHOOK_ID.
        name = _text(name).lower().replace("_", "-").removeprefix("http-")
        if name in wanted and wanted[name] is None:
            wanted[name] = _text(value).strip()
    if missing := [name for name, value in wanted.items() if not value]:
        raise WebhookVerificationError("missing_header", f"without {' and '.join(missing)}: not a webhook")
    return {name: value or "" for name, value in wanted.items()}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _check_age(timestamp: str, now: float, tolerance_s: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise WebhookVerificationError("invalid_timestamp", "webhook-timestamp is not in Unix seconds")
    age = now - int(timestamp)
    # "not … <=" and not ">": a NaN must fail, too.
    if not age <= tolerance_s:
        detail = f"sent {age:.0f} s ago, and {tolerance_s:g} s are allowed: a replay, or a wrong clock here"
        raise WebhookVerificationError("too_old", detail)
    if not -age <= tolerance_s:
        detail = f"sent {-age:.0f} s in the future, and {tolerance_s:g} s are allowed: a wrong clock here?"
        raise WebhookVerificationError("too_new", detail)


def _check_signature(header: str, expected: list[bytes]) -> None:
    given = [part.removeprefix("v1,") for part in header.split() if part.startswith("v1,")]
    if not given:
        raise WebhookVerificationError("no_signature", "webhook-signature holds no signature of scheme v1")
    # Every pair is compared, so that the time taken says nothing of which one matched.
    matches = [hmac.compare_digest(_bytes(text), right) for text in given for right in expected]
    if not any(matches):
        detail = "no signature fits: another secret, or the body is not as it was sent"
        raise WebhookVerificationError("wrong_signature", detail)


def _digest(key: bytes, webhook_id: str, timestamp: str, payload: bytes) -> bytes:
    signed = b".".join((_bytes(webhook_id), timestamp.encode(), payload))
    return base64.b64encode(hmac.digest(key, signed, "sha256"))


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise WebhookVerificationError("invalid_body", "the body is not JSON") from None
    try:
        datetime.fromisoformat(body["timestamp"])
        usable = isinstance(body["type"], str) and isinstance(body["data"], dict)
    except (TypeError, KeyError, ValueError):
        usable = False
    if not usable:
        raise WebhookVerificationError("invalid_body", "the body has no type, timestamp and data")
    parsed: dict[str, Any] = body
    return parsed


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
