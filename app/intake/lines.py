"""A file as lines, whatever their length, in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line that is not blank. `text` is None if it is too long; `end` is the byte after its newline."""

    number: int
    end: int
    text: bytes | None


def lines(chunks: Iterable[bytes], most_bytes: int, number: int = 1, start: int = 0) -> Iterator[RawLine]:
    """The lines of a file of which `chunks` are the bytes from `start`, where line `number` begins.

    A line ends with LF, CRLF or the file. Blank lines are numbered and left out. Of a line over `most_bytes`
    no more than that and one chunk is ever held.
    """
    held: list[bytes] = []
    length = 0
    at = start
    first = start == 0
    for chunk in chunks:
        parts = chunk.split(b"\n")
        last = parts.pop()
        for part in parts:
            at += length + len(part) + 1
            text: bytes | None
            if held or length:
                text = b"".join([*held, part]) if length + len(part) <= most_bytes + 1 else None
                held, length = [], 0
            else:
                text = part
            if first:
                first, text = False, _without_bom(text)
            if text is None or (len(text) > most_bytes and len(text.rstrip(b"\r")) > most_bytes):
                yield RawLine(number, at, None)
            elif text and not text.isspace():
                yield RawLine(number, at, text)
            number += 1
        length += len(last)
        if length <= most_bytes + 1:
            if last:
                held.append(last)
        else:
            held = []
    if length:
        text = b"".join(held) if length <= most_bytes + 1 else None
        if first:
            text = _without_bom(text)
        if text is None or len(text.rstrip(b"\r")) > most_bytes:
            yield RawLine(number, at + length, None)
        elif text and not text.isspace():
            yield RawLine(number, at + length, text)


def _without_bom(text: bytes | None) -> bytes | None:
    return text.removeprefix(_BOM) if text is not None else None
