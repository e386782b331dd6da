"""What Postgres says of itself: which of its errors are troubles of the server, and what to call them."""

import re

import psycopg

from app.errors import NoRoom, Unavailable
from app.observability import metrics

_AWAY = "the database is not reachable"

_BY_CODE = {
    "25006": "the database can only be read",
    "40001": "the database had something else to do first",
    "40P01": "the database had something else to do first",
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database takes no more connections",
    "53400": "the database is at a limit of its configuration",
    "55P03": "the database had something else to do first",
    "57014": "the database took too long",
    "57P01": "the database is shutting down",
    "57P02": "the database is shutting down",
    "57P03": "the database is starting up",
    "58030": "the database can't read or write its disk",
}

# What keeps a connection from being made has no code, so it is known by its words.
_AT_THE_DOOR = {
    "53300": r"too many clients|too many connections|connection slots are reserved|no more connections",
    "57P03": r"is starting up|in recovery mode|not yet accepting connections",
    "57P01": r"is shutting down",
}
_REFUSED = "the database refuses the user or the password"


def is_of_the_server(error: BaseException | None) -> bool:
    """Whether it is the server's trouble and may be over later. A limit of Postgres that the statement is
    beyond (54…) is not: it would be so for ever.
    """
    return isinstance(error, psycopg.OperationalError) and not (error.sqlstate or "").startswith("54")


def trouble(error: BaseException | None) -> Unavailable:
    """What to raise for it. The message names what is the matter, and neither hosts nor values."""
    code = getattr(error, "sqlstate", None) or _code_at_the_door(error)
    if code and (code.startswith("53") or code == "58030"):
        metrics.NO_ROOM.labels("postgres").inc()
        return NoRoom(_BY_CODE.get(code, "the database is out of a resource"))
    return Unavailable(_REFUSED if code == "28P01" else _BY_CODE.get(code or "", _AWAY))


def _code_at_the_door(error: BaseException | None) -> str | None:
    said = str(error) if isinstance(error, psycopg.OperationalError) else ""
    if "FATAL" not in said:
        return None
    if "authentication failed" in said:
        return "28P01"
    return next((code for code, words in _AT_THE_DOOR.items() if re.search(words, said)), None)
