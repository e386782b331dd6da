"""Following a job's events over as many connections as it takes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.errors import APIConnectionError, APIError, HeadraceError
from headrace.sse import Message, Parser
from headrace.transport import Transport

COMPLETED = "completed"


@dataclass(frozen=True)
class Event:
    """Something that happened to a job: `type` is `status`, `progress` or `completed`."""

    id: str | None
    type: str
    data: dict[str, Any]


def follow(transport: Transport, path: str) -> Iterator[Event]:
    """Every event up to and with `completed`, which may lack if it was sent before.

    A broken connection is resumed with `Last-Event-ID`, so that no event is missed. Raises once as
    many connections in a row brought nothing as a patient client tries.
    """
    policy = transport.policy.patient()
    last_event_id: str | None = None
    failures = 0
    while True:
        parser = Parser(last_event_id)
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        failure: HeadraceError = APIConnectionError("the event stream ended before the job did")
        try:
            with transport.stream(path, headers) as pieces:
                if pieces is None:
                    return
                for piece in pieces:
                    failures = 0
                    for message in parser.feed(piece):
                        event = _event(message)
                        yield event
                        if event.type == COMPLETED:
                            return
        except (APIError, APIConnectionError) as error:
            failure = error
        pause = policy.pause(failure, failures, transport.clock.chance())
        if pause is None:
            raise failure
        transport.clock.sleep(max(pause, parser.retry_s or 0.0))
        last_event_id = parser.last_event_id
        failures += 1


def _event(message: Message) -> Event:
    try:
        data = json.loads(message.data)
    except ValueError:
        data = message.data
    return Event(message.id, message.event, data if isinstance(data, dict) else {"value": data})
