"""What became of one line of a batch."""

from typing import Any

from headrace.record import Record
from headrace.types import Failure, Json


class BatchResult(Record):
    """A line of the output or of the error file. A wrong line has no `id`."""

    @property
    def custom_id(self) -> str | None:
        """The line's own name; None if it has none that can be read."""
        return self._raw.get("custom_id")

    @property
    def ok(self) -> bool:
        """Whether there is an answer to it."""
        return self.error is None

    @property
    def status_code(self) -> int | None:
        """What a request of its own would have been answered with; None if it did not run."""
        return self._response.get("status_code")

    @property
    def body(self) -> Json:
        """What a request of its own would have brought: a job, or embeddings in OpenAI's shape."""
        return self._response.get("body")

    @property
    def output(self) -> Json:
        """What the model answered, if the line is a job that succeeded. A large one is `{"file_id",
        "size", "sha256"}`."""
        body = self.body if isinstance(self.body, dict) else {}
        return body.get("output") if body.get("object") == "job" else None

    @property
    def error(self) -> Failure | None:
        """Why there is no answer. `code` is stable and made for programs."""
        error: Failure | None = self._raw.get("error")
        if error is None and (self.status_code or 0) >= 400:
            body = self.body if isinstance(self.body, dict) else {}
            error = body.get("error") or Failure(
                code=f"http_{self.status_code}", message="it did not succeed"
            )
        return error

    @property
    def line(self) -> int | None:
        """Which line of the file it is, where that was wrong."""
        return self._raw.get("line") or (self._raw.get("error") or {}).get("line")

    @property
    def _response(self) -> dict[str, Any]:
        return self._raw.get("response") or {}

    def __repr__(self) -> str:
        return f"BatchResult({self.custom_id!r}, {'ok' if self.ok else (self.error or {}).get('code')!r})"
