"""Azure: scheduled events of the instance metadata service.

A spot machine is evicted by an event of the type `Preempt`, told at least 30 seconds before its `NotBefore`.
Events of a whole scale set or availability set are shown to each of its machines, so an event counts only
where its `Resources` name this one. `StartRequests` approves an event: Azure then need not wait for
`NotBefore`.

Source: Microsoft Learn, "Azure Metadata Service: Scheduled Events for Linux VMs" (virtual-machines/linux/
scheduled-events), "Azure Instance Metadata Service" (the name of the machine).
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from workers.spot.metadata import Answer, Metadata
from workers.spot.notice import Kind, Notice, Unreadable

WARNING_S = 30.0
_HEADERS = {"Metadata": "true"}
_EVENTS = "/metadata/scheduledevents"
_EVENTS_VERSION = {"api-version": "2020-07-01"}
_NAME = "/metadata/instance/compute/name"
_NAME_VERSION = {"api-version": "2021-02-01", "format": "text"}


class Azure:
    """See `Provider`. `acknowledge`: approve the event once the worker has left."""

    def __init__(self, metadata: Metadata, *, acknowledge: bool) -> None:
        self._metadata = metadata
        self._acknowledge = acknowledge
        self._name: str | None = None
        self._event_id: str | None = None

    def look(self) -> Notice | None:
        answer = self._metadata.ask(_EVENTS, _HEADERS, params=_EVENTS_VERSION)
        if answer.status != HTTPStatus.OK:
            raise Unreadable(f"status {answer.status}")
        events = answer.json().get("Events")
        if not isinstance(events, list):
            raise Unreadable("no list of events")
        for event in events:
            if isinstance(event, dict) and event.get("EventType") == "Preempt" and self._is_ours(event):
                self._event_id = str(event.get("EventId"))
                return Notice(Kind.INTERRUPTION, _left_s(answer, event), "Preempt")
        return None

    def left(self) -> None:
        """Approve the eviction that this worker has left for."""
        if self._acknowledge and self._event_id is not None:
            body = {"StartRequests": [{"EventId": self._event_id}]}
            answer = self._metadata.ask(_EVENTS, _HEADERS, method="POST", params=_EVENTS_VERSION, body=body)
            if answer.status != HTTPStatus.OK:
                raise Unreadable(f"status {answer.status}")

    def _is_ours(self, event: dict[str, Any]) -> bool:
        resources = event.get("Resources")
        if not isinstance(resources, list):
            raise Unreadable("an event without resources")
        if self._name is None:
            answer = self._metadata.ask(_NAME, _HEADERS, params=_NAME_VERSION)
            if answer.status != HTTPStatus.OK:
                raise Unreadable(f"the machine's name: status {answer.status}")
            self._name = answer.text.decode("utf-8", "replace").strip()
        return self._name in resources


def _left_s(answer: Answer, event: dict[str, Any]) -> float:
    """An event that has started has no `NotBefore`: it may be over any moment."""
    if event.get("EventStatus") == "Started":
        return 0.0
    try:
        at = parsedate_to_datetime(str(event.get("NotBefore")))
    except ValueError:
        return WARNING_S
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, answer.seconds_until(at))
