"""The requests that batches are made of: paths, headers and raw answers. `Batch` dresses them up."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace import pages
from headrace.arguments import in_path
from headrace.clock import Deadline
from headrace.content import Content
from headrace.errors import APIConnectionError, APIError, HeadraceError
from headrace.headers import key_header
from headrace.transport import Answer, Transport

_PATH = "/v1/batches"


class BatchApi:
    """One method per endpoint."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def create(self, body: Mapping[str, Any], idempotency_key: str | None) -> Answer:
        """POST a batch."""
        return self.transport.request("POST", _PATH, body=body, headers=key_header(idempotency_key))

    def fetch(self, batch_id: str, deadline: Deadline | None = None) -> dict[str, Any]:
        """GET a batch."""
        return self._json("GET", _path(batch_id), deadline=deadline)

    def list(self, params: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """GET every page, as it is reached."""
        return pages.items(self.transport, _PATH, params, limit)

    def cancel(self, batch_id: str) -> dict[str, Any]:
        return self._json("POST", _path(batch_id, "/cancel"))

    def retry(self, batch_id: str, idempotency_key: str | None) -> dict[str, Any]:
        return self._json("POST", _path(batch_id, "/retry"), headers=key_header(idempotency_key))

    def results(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """GET the lines that ended, in the order of the file, over as many connections as it takes."""
        policy, clock = self.transport.policy.patient(), self.transport.clock
        failures, given = 0, _Place()
        while True:
            failure: HeadraceError = APIConnectionError("the results ended within a line")
            try:
                with self.transport.download(_path(batch_id, "/results"), {}) as answer:
                    cut = Lines(answer.pieces)
                    for line in cut:
                        result = json.loads(line)
                        if given.passes(result):
                            failures = 0
                            yield result
                if not cut.rest:
                    return
            except (APIError, APIConnectionError) as error:
                failure = error
            pause = policy.pause(failure, failures, clock.chance())
            if pause is None:
                raise failure
            clock.sleep(pause)
            failures += 1

    def file_lines(self, file_id: str) -> Iterator[dict[str, Any]]:
        """The lines of an output or error file."""
        path = f"/v1/files/{in_path(file_id, 'a file')}/content"
        return map(json.loads, Lines(iter(Content(self.transport, path))))

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        batch: dict[str, Any] = self.transport.request(method, path, **options).data
        return batch


class _Place:
    """How far the results were read. Read again, they begin anew, and more of them have ended: what is not
    after this place is passed over."""

    def __init__(self) -> None:
        self._id = ""
        self._line = 0

    def passes(self, result: dict[str, Any]) -> bool:
        """Whether it is beyond; then the place is there."""
        # Ids rise with the order of the file. A wrong line has none, but its number.
        if result["id"] is None:
            beyond = result["error"]["line"] > self._line
            self._line = max(self._line, result["error"]["line"])
        else:
            beyond = result["id"] > self._id
            self._id = max(self._id, result["id"])
        return beyond


class Lines:
    """The lines of what comes in pieces, but for blank ones. `rest` is what came after the last one's end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.rest = b""

    def __iter__(self) -> Iterator[bytes]:
        held: list[bytes] = []
        for piece in self._pieces:
            first, *others = piece.split(b"\n")
            held.append(first)
            if others:
                yield from filter(None, (b"".join(held), *others[:-1]))
                held = others[-1:]
        self.rest = b"".join(held)


def _path(batch_id: str, action: str = "") -> str:
    return f"{_PATH}/{in_path(batch_id, 'a batch')}{action}"
