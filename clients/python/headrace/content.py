"""Reading a file's content over as many connections as it takes."""

import hashlib
import re
from collections.abc import Iterator, Mapping

from headrace.errors import APIConnectionError, APIError, ChecksumError, HeadraceError
from headrace.transport import Transport

_SHA256 = re.compile(r'(?:W/)?"([0-9a-f]{64})"')
_TOTAL = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Content:
    """The bytes from `start` on, `digest` having seen those before. Iterate it once.

    What a broken connection did not bring is asked for as a range. Raises once as many connections in a
    row brought nothing as a patient client tries, and `ChecksumError` at the end if the whole is not what
    the server has.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        start: int = 0,
        digest: "hashlib._Hash | None" = None,
        size: int | None = None,
    ) -> None:
        self._transport = transport
        self._path = path
        self._at = start
        self._digest = digest or hashlib.sha256()
        self._size = size
        self._etag: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        policy, clock = self._transport.policy.patient(), self._transport.clock
        failures = 0
        while self._size is None or self._at < self._size:
            failure: HeadraceError = APIConnectionError("the content ended before it was complete")
            try:
                for piece in self._rest():
                    failures = 0
                    yield piece
                if self._size is None or self._at >= self._size:
                    break
            except (APIError, APIConnectionError) as error:
                failure = error
            pause = policy.pause(failure, failures, clock.chance())
            if pause is None:
                raise failure
            clock.sleep(pause)
            failures += 1
        self._check()

    def _rest(self) -> Iterator[bytes]:
        """What one connection brings."""
        sent = {}
        if self._at:
            sent = {"Range": f"bytes={self._at}-"} | ({"If-Range": self._etag} if self._etag else {})
        with self._transport.download(self._path, sent) as answer:
            surplus = self._begin(answer.status, answer.headers)
            for piece in answer.pieces:
                fresh = piece[surplus:]
                surplus -= len(piece) - len(fresh)
                if fresh:
                    self._digest.update(fresh)
                    self._at += len(fresh)
                    yield fresh

    def _begin(self, status: int, headers: Mapping[str, str]) -> int:
        """Note what the answer says of the whole; how many of its first bytes are here already."""
        etag = headers.get("ETag")
        if self._etag and etag != self._etag:
            raise ChecksumError("the content changed while it was read")
        self._etag = etag
        if status == 206:
            found = _TOTAL.fullmatch(headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._at:
                raise APIError(
                    status, "unexpected_answer", "the server sent another range than was asked for"
                )
            self._size = int(found[2])
            return 0
        length = headers.get("Content-Length", "")
        self._size = int(length) if length.isdigit() else self._size
        return self._at

    def _check(self) -> None:
        found = _SHA256.fullmatch(self._etag or "")
        if found and found[1] != self._digest.hexdigest():
            raise ChecksumError("the content is not what the server has: its SHA-256 is another")
