"""Asking a cloud's metadata server: plain HTTP on the machine's own link, with little patience.

Not a way out for tenants' URLs (those go by `workers/egress.py`): the address is the operator's setting. No
proxy, no redirect, no credentials of the environment.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import requests
import urllib3

from workers.spot.notice import Unreadable

MOST_BYTES = 65_536


class Answer:
    """What the server said: status, text, and its own clock."""

    def __init__(self, status: int, text: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.text = text
        self.headers = headers

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `Unreadable`."""
        try:
            value = orjson.loads(self.text)
        except orjson.JSONDecodeError:
            raise Unreadable("the answer is not JSON") from None
        if not isinstance(value, dict):
            raise Unreadable("the answer is not a JSON object")
        return value

    def seconds_until(self, moment: datetime) -> float:
        """From now until then. By the server's clock, if it says what time it is: ours may be wrong."""
        try:
            now = parsedate_to_datetime(self.headers["Date"])
        except (KeyError, ValueError):
            now = datetime.now(UTC)
        if now.tzinfo is None:
            now = now.replace(tzinfo=UTC)
        return (moment - now).total_seconds()


class Metadata:
    """One metadata server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False
        # A connection for each question: one that is kept may be closed by the time of the next.
        self._session.headers["Connection"] = "close"

    def ask(
        self,
        path: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        holds_s: float = 0.0,
    ) -> Answer:
        """One question, which the server may hold for `holds_s` seconds. Raises `Unreadable`.

        Any status is an answer but 5xx and redirects.
        """
        patience_s = self._timeout_s + holds_s
        until = time.monotonic() + 2 * patience_s
        try:
            with self._session.request(
                method,
                f"{self._url}{path}",
                headers=dict(headers),
                params=params,
                json=body,
                timeout=(self._timeout_s, patience_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                text = _read(response, until)
                answer = Answer(response.status_code, text, response.headers)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreadable(f"no answer: {type(error).__name__}") from None
        if answer.status >= 500 or 300 <= answer.status < 400:
            raise Unreadable(f"status {answer.status}")
        return answer


def _read(response: requests.Response, until: float) -> bytes:
    """The body, as far as it is short and comes in time: a server that drips is not waited for."""
    text = b""
    while chunk := response.raw.read1(4096, decode_content=True):
        text += chunk
        if len(text) > MOST_BYTES:
            raise ValueError("too long")
        if time.monotonic() > until:
            raise TimeoutError
    return text
