"""AWS: the instance metadata service, version 2.

`spot/instance-action` is 404 until the instance is marked, two minutes before it is stopped or terminated;
then `{"action": "terminate", "time": "2026-11-25T08:22:00Z"}`. A hibernation begins at once. AWS recommends
a look every 5 seconds. `events/recommendations/rebalance` is 404 until the instance is at elevated risk.

Sources: Amazon EC2 User Guide, "Spot Instance interruption notices" (spot-instance-termination-notices.html),
"EC2 instance rebalance recommendations" (rebalance-recommendations.html), "Use the Instance Metadata Service"
(configuring-instance-metadata-service.html).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from workers.spot.metadata import Answer, Metadata
from workers.spot.notice import Kind, Notice, Unreadable

TOKEN_S = 21_600
"""The longest life that a token may have."""
WARNING_S = 120.0
UNCLEAR_S = 60.0
"""Assumed of a notice whose time can't be read."""
_ACTIONS = ("terminate", "stop", "hibernate")


class Aws:
    """See `Provider`."""

    def __init__(self, metadata: Metadata, clock: Callable[[], float] = time.monotonic) -> None:
        self._metadata = metadata
        self._clock = clock
        self._token: str | None = None
        self._token_until = 0.0

    def look(self) -> Notice | None:
        answer = self._ask("/latest/meta-data/spot/instance-action")
        if answer is not None:
            return _interruption(answer)
        answer = self._ask("/latest/meta-data/events/recommendations/rebalance")
        if answer is None:
            return None
        answer.json()
        return Notice(Kind.REBALANCE, None, "rebalance recommendation")

    def left(self) -> None:
        """AWS does not ask."""

    def _ask(self, path: str) -> Answer | None:
        """None: there is no such item. A token that is not taken any more is renewed once."""
        for _ in range(2):
            answer = self._metadata.ask(path, {"X-aws-ec2-metadata-token": self._valid_token()})
            if answer.status != HTTPStatus.UNAUTHORIZED:
                break
            self._token = None
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status != HTTPStatus.OK:
            raise Unreadable(f"status {answer.status}")
        return answer

    def _valid_token(self) -> str:
        if self._token is None or self._clock() >= self._token_until:
            life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
            answer = self._metadata.ask("/latest/api/token", life, method="PUT")
            token = answer.text.decode("ascii", "replace").strip()
            if answer.status != HTTPStatus.OK or not token.isprintable() or not token.isascii() or not token:
                raise Unreadable(f"no token: status {answer.status}")
            self._token = token
            # Renewed well before its end.
            self._token_until = self._clock() + TOKEN_S * 0.9
        return self._token


def _interruption(answer: Answer) -> Notice:
    told = answer.json()
    action = told.get("action")
    if action not in _ACTIONS:
        raise Unreadable("an action that is not known")
    if action == "hibernate":
        return Notice(Kind.INTERRUPTION, 0.0, action)
    try:
        at = datetime.fromisoformat(str(told.get("time")))
    except ValueError:
        return Notice(Kind.INTERRUPTION, UNCLEAR_S, action)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return Notice(Kind.INTERRUPTION, min(max(answer.seconds_until(at), 0.0), WARNING_S), action)
