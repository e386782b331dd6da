"""Google Cloud: the metadata server's `instance/preempted`.

`FALSE`, and `TRUE` once the instance is being preempted: 30 seconds before it is stopped, at best. With
`wait_for_change` the answer is held until the value differs from the one with `last_etag`, so that the news
comes at once. Maintenance events (`instance/maintenance-event`) are of no interest: a spot machine is not
migrated.

Sources: Compute Engine documentation, "Spot VMs" and "Preemptible VM instances" (the preemption process),
"Query VM metadata" (`wait_for_change`, `last_etag`, `timeout_sec`, the header `Metadata-Flavor`).
"""

from http import HTTPStatus

from workers.spot.metadata import Metadata
from workers.spot.notice import Kind, Notice, Unreadable

WARNING_S = 30.0
HOLD_S = 5
"""How long the server holds a question whose answer has not changed."""


class Gcp:
    """See `Provider`."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._etag: str | None = None

    def look(self) -> Notice | None:
        etag, self._etag = self._etag, None
        params = (
            {"wait_for_change": "true", "timeout_sec": str(HOLD_S), "last_etag": etag}
            if etag is not None
            else {}
        )
        answer = self._metadata.ask(
            "/computeMetadata/v1/instance/preempted",
            {"Metadata-Flavor": "Google"},
            params=params,
            holds_s=HOLD_S if etag is not None else 0,
        )
        if answer.status != HTTPStatus.OK:
            raise Unreadable(f"status {answer.status}")
        value = answer.text.strip()
        if value == b"TRUE":
            return Notice(Kind.INTERRUPTION, WARNING_S, "preempted")
        if value != b"FALSE":
            raise Unreadable("neither TRUE nor FALSE")
        self._etag = answer.headers.get("ETag")
        return None

    def left(self) -> None:
        """Google does not ask."""
