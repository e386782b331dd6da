"""HTTP, and nothing above it: one pooled session per thread, retries, errors with types.

Redirects are never followed: an API has no use for them, and following one can carry the key away.
"""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import requests
import urllib3

from headrace.clock import Clock, Deadline
from headrace.config import Config
from headrace.encoding import to_json
from headrace.errors import APIConnectionError, APIError, APITimeoutError
from headrace.problems import error_from, retry_after
from headrace.retry import RetryPolicy, was_refused
from headrace.version import __version__

USER_AGENT = f"headrace-python/{__version__}"
_CONNECT_TIMEOUT_S = 5.0
_GRACE_S = 5.0
# A socket takes no longer timeout than some centuries.
_FOREVER_S = 1e9
# The server sends a comment every 15 s. Three missed in a row means that the line is dead.
_STREAM_SILENCE_S = 45.0
_CHUNK_BYTES = 65_536
_REFUSED = os.strerror(errno.ECONNREFUSED)


@dataclass(frozen=True)
class Answer:
    """A successful answer. `data` is its JSON, None if it had no body."""

    status: int
    headers: Mapping[str, str]
    data: Any

    @property
    def retry_after(self) -> float | None:
        return retry_after(self.headers)


class Upload:
    """A body that is read as it is sent, anew for every try, and is never held as a whole.

    `pieces` begins again each time it is called, and gives `length` bytes in all.
    """

    def __init__(self, content_type: str, length: int, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.content_type = content_type
        self._length = length
        self._pieces = pieces

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces()


@dataclass(frozen=True)
class Download:
    """An answer whose body is read as it comes. What arrived is what `pieces` gave before it raised."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


class Transport:
    """Sends requests to one server. Safe to share among threads, and to carry over a fork."""

    def __init__(self, config: Config, *, timeout: float, policy: RetryPolicy, clock: Clock) -> None:
        self._config = config
        self._timeout = min(timeout, _FOREVER_S)
        self.policy = policy
        self.clock = clock
        self._auth = _Bearer(config.api_key)
        self._local = threading.local()
        self._sessions: WeakSet[requests.Session] = WeakSet()
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        upload: Upload | None = None,
        headers: Mapping[str, str] | None = None,
        hold: float = 0.0,
        deadline: Deadline | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Send, and send again while it makes sense. Every retry sends the same bytes and headers.

        Not `repeatable` is what would be done twice if the first answer were lost, and has no
        Idempotency-Key against it: that is sent again only if it was refused.

        `hold` is how long the server was asked to hold the answer back, on top of the timeout. With
        a `deadline` the caller waits for a job: retries are more patient, and none starts after it.
        Raises `APIError` or `APIConnectionError`.
        """
        payload = upload if body is None else to_json(body)
        policy = self.policy.patient() if deadline else self.policy
        deadline = deadline or Deadline(self.clock, None)
        sent = dict(headers or {})
        if payload is not None:
            sent["Content-Type"] = upload.content_type if upload else "application/json"
        retries = 0
        while True:
            try:
                # A hanging server stretches the caller's deadline by a grace, not by our timeout.
                patience = min(hold + self._timeout, deadline.left() + _GRACE_S)
                return self._send(method, path, params, payload, sent, patience)
            except (APIError, APIConnectionError) as error:
                pause = policy.pause(error, retries, self.clock.chance())
                if pause is None or pause >= deadline.left():
                    raise
                if not (repeatable or was_refused(error)):
                    raise
            self.clock.sleep(pause)
            retries += 1

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[bytes] | None]:
        """Open an endless answer: pieces of its body as they arrive. One try, no retries.

        None where the server says with a 204 that nothing will come any more.
        """
        with self._streamed(path, {**headers, "Accept": "text/event-stream"}, _STREAM_SILENCE_S) as response:
            if response.status_code == 204:
                yield None
                return
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise _not_ours(response)
            yield self._pieces(response)

    @contextmanager
    def download(self, path: str, headers: Mapping[str, str]) -> Iterator[Download]:
        """Open an answer of any length, to be read as it comes. One try, no retries."""
        with self._streamed(path, {**headers, "Accept": "*/*"}, self._timeout) as response:
            yield Download(response.status_code, response.headers, self._pieces(response))

    @contextmanager
    def _streamed(
        self, path: str, headers: Mapping[str, str], silence_s: float
    ) -> Iterator[requests.Response]:
        # Identity, because a compressor would hold small events back, and ranges are of what is stored.
        sent = {**headers, "Accept-Encoding": "identity"}
        response = self._open("GET", path, None, None, sent, silence_s, stream=True)
        try:
            if not 200 <= response.status_code < 300:
                raise error_from(response.status_code, response.headers, self._rest_of(response))
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Close every connection. A later request opens new ones."""
        with self._lock:
            sessions, self._sessions = self._sessions, WeakSet()
            self._local = threading.local()
        for session in sessions:
            session.close()

    def __repr__(self) -> str:
        return f"Transport({self._config.base_url!r})"

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        payload: bytes | Upload | None,
        headers: Mapping[str, str],
        read_timeout: float,
    ) -> Answer:
        response = self._open(method, path, params, payload, headers, read_timeout)
        if not 200 <= response.status_code < 300:
            raise error_from(response.status_code, response.headers, response.content)
        try:
            data = json.loads(response.content) if response.content else None
        except ValueError:
            raise _not_ours(response) from None
        return Answer(response.status_code, response.headers, data)

    def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        payload: bytes | Upload | None,
        headers: Mapping[str, str],
        read_timeout: float,
        *,
        stream: bool = False,
    ) -> requests.Response:
        # Until the body is sent, the connection's timeout is that of connecting: too short for a slow disk.
        connect_timeout = self._timeout if isinstance(payload, Upload) else _CONNECT_TIMEOUT_S
        try:
            return self._session().request(
                method,
                self._config.base_url + path,
                params=params,
                data=payload,
                headers=headers,
                timeout=(min(connect_timeout, self._timeout), read_timeout),
                allow_redirects=False,
                stream=stream,
            )
        except requests.RequestException as error:
            failure = self._failure(error)
        # Raised out of the handler: the original refers to the request, whose headers hold the key,
        # and an error reporter that walks the chain would write it down.
        raise failure

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        # read1 returns what is there; requests' own iterators wait for a full piece.
        try:
            while piece := response.raw.read1(_CHUNK_BYTES):
                yield piece
            return
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = self._failure(error)
        raise failure

    def _rest_of(self, response: requests.Response) -> bytes:
        try:
            return response.content
        except requests.RequestException as error:
            failure = self._failure(error)
        raise failure

    def _session(self) -> requests.Session:
        local = self._local
        # A forked child must not talk on its parent's connection.
        if getattr(local, "pid", None) != os.getpid():
            session = requests.Session()
            session.headers = requests.structures.CaseInsensitiveDict(
                {"User-Agent": USER_AGENT, "Accept": "application/json"}
            )
            session.auth = self._auth
            # A proxy is no way to this machine itself, and looking for one costs every request.
            session.trust_env = not self._config.is_local_http
            with self._lock:
                self._sessions.add(session)
            local.session, local.pid = session, os.getpid()
        current: requests.Session = local.session
        return current

    def _failure(self, error: Exception) -> APIConnectionError:
        server = self._config.base_url
        if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
            return APITimeoutError(f"{server} did not answer in time")
        retryable = not isinstance(error, (requests.exceptions.SSLError, requests.exceptions.InvalidHeader))
        cause = root_cause(error)
        if cause == _REFUSED and self._config.is_loopback:
            cause += " (headracectl up starts a development stack)"
        return APIConnectionError(f"can't reach {server}: {cause}", retryable)


class _Bearer(requests.auth.AuthBase):
    """The key as an auth object, so that no `.netrc` replaces it and no repr shows it."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def _not_ours(response: requests.Response) -> APIError:
    kind = response.headers.get("Content-Type", "something without a type")
    detail = f"expected a Headrace server, got {kind}; is the URL right?"
    return APIError(response.status_code, "unexpected_answer", detail)


def root_cause(error: BaseException) -> str:
    """What the operating system said, without the addresses of objects that wrap it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        wrapped = inner if isinstance(inner, BaseException) else None
        cause = wrapped or cause.__cause__ or cause.__context__
    return "the connection broke"
