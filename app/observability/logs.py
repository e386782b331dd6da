"""Structured logs: one JSON object a line on stdout, with the request's or the job's ids bound to it.

A log never holds a payload or a secret. Errors are logged with their type and where they happened;
the message of a database error is left out, because Postgres quotes values in it.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO, cast
from uuid import UUID

import orjson
import structlog

from app.observability import bugs
from app.settings import Settings

_LOUD_LIBRARIES = (
    "sqlalchemy",
    "kombu",
    "celery.redirected",
    # Two lines a task; our own events say more.
    "celery.worker.strategy",
    "celery.app.trace",
    "urllib3",
    "redis",
)

get_logger = structlog.get_logger

_BUGS = frozenset({"error", "exception", "critical"})

IDS_IN_A_LINE = 64
"""A line of more than 4 kB may be torn where processes share a pipe."""


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send our events and the libraries' warnings to `stream` (stdout) in one format, and bugs to Sentry if
    that is asked for. Once per process.
    """
    bugs.configure(settings)
    outlet = cast(TextIO, _Outlet(stream or sys.stdout))
    level = getattr(logging, settings.log_level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if settings.log_format == "console" else _to_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Writes a line at once: processes that share a pipe would else mix theirs.
        logger_factory=structlog.WriteLoggerFactory(outlet),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(outlet)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def of_jobs(log: Any, event: str, ids: Sequence[UUID], **facts: Any) -> None:
    """Log an event of these jobs with their ids, as the API shows them: a line for each `IDS_IN_A_LINE`."""
    for first in range(0, len(ids), IDS_IN_A_LINE):
        log.info(event, **facts, jobs=[f"job_{one.hex}" for one in ids[first : first + IDS_IN_A_LINE]])


class _Outlet:
    """Where lines go. What can't be written is lost: no request and no batch fails because a disk is full, or
    because whoever read our pipe was killed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as loggable values: types along its chain, and the frames of each, but no locals."""
    chain: list[str] = []
    frames: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        chain.append(_name(cause))
        frames += [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(cause.__traceback__)[-12:]
        ]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return {"error": chain, "trace": frames}


def _name(error: BaseException) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if sqlstate := getattr(error, "sqlstate", None):
        return f"{kind} {sqlstate}"
    quotes_values = hasattr(error, "orig") or kind.startswith(("psycopg.", "pydantic", "jsonschema"))
    return kind if quotes_values else f"{kind}: {str(error)[:300]}"


def _describe_exception(_logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    elif given and not isinstance(given, BaseException):
        given = sys.exc_info()[1]
    if isinstance(given, BaseException):
        if method in _BUGS:
            bugs.report(given, event)
        event |= describe(given)
    return event


def _to_json(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # a lone surrogate, a foreign key type: the line must still come out
        return orjson.dumps({str(key): ascii(value) for key, value in event.items()}).decode()
