"""gunicorn's own log in our format: one JSON object a line, and nothing that a client sent.

gunicorn quotes the request line, headers and URLs in its messages: a malformed `Authorization` would be
in the log. So of an exception only the type is written, and a refused request is named by its kind.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
from gunicorn.glogging import Logger

_REFUSED = "Invalid request from ip="
_FAILED = "Error handling request"


class JsonLogger(Logger):
    """gunicorn's logger, whose handler writes JSON."""

    def _set_handler(
        self, log: logging.Logger, output: Any, fmt: logging.Formatter, stream: Any = None
    ) -> None:
        super()._set_handler(log, output, JsonFormatter(fmt._fmt), stream)


class JsonFormatter(logging.Formatter):
    """A record as a line. The texts of exceptions are left out: they hold what could not be understood."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        line = {
            "event": "server.message",
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        text = str(record.msg)
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        if text.startswith(_REFUSED):
            line["event"] = "server.refused"
        elif text.startswith(_FAILED):
            line["event"] = "server.failed"
        elif error is None:
            line["message"] = record.getMessage()
        if error is not None:
            line["error"] = f"{type(error).__module__}.{type(error).__qualname__}"
        return orjson.dumps(line).decode()
