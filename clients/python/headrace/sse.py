"""The text/event-stream format (WHATWG HTML, 9.2): bytes in, messages out. No socket here."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One dispatched message. `id` is the last id seen, which is what a reconnect sends."""

    id: str | None
    event: str
    data: str


class Parser:
    """Reads one connection. A piece may have any size, and end within a line or a character.

    >>> list(Parser().feed(b"id: 7\\nevent: status\\ndata: {}\\n\\n"))
    [Message(id='7', event='status', data='{}')]
    """

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.retry_s: float | None = None
        """The pause before a reconnect that the server asked for."""
        self._buffer = b""
        self._after_cr = False
        self._at_start = True
        # An id counts once its message is complete: a resume after half a message repeats it whole.
        self._id = last_event_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that `piece` completes."""
        for line in self._lines(piece):
            if line:
                self._field(line)
                continue
            self.last_event_id = self._id
            event, data = self._event or "message", self._data
            self._event, self._data = "", []
            if data:
                yield Message(self._id, event, "\n".join(data))

    def _lines(self, piece: bytes) -> Iterator[str]:
        # A line ends with LF, CR or CRLF, and a CRLF may be cut in two by the network.
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if self._at_start and len(self._buffer + piece) >= 3:
            piece, self._buffer = (self._buffer + piece).removeprefix(b"\xef\xbb\xbf"), b""
            self._at_start = False
        self._after_cr = piece.endswith(b"\r")
        text = (self._buffer + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._buffer = text.split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_s = int(value) / 1000
