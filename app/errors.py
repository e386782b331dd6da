"""The error tree on one screen. A code is stable: clients match on it, so it never changes meaning.

HeadraceError
├── SettingsError             a process can't start
├── Unavailable               Postgres, Redis or the file storage is out of reach
│   └── NoRoom                it is there, and out of room: its disk, its memory, its connections
├── RequestError              what a client sent; app/api/problems.py alone turns it into HTTP
│   ├── Malformed             400  can't be read at all
│   ├── Unauthenticated       401
│   ├── Forbidden             403
│   ├── NotFound              404  (also: someone else's)
│   ├── Conflict              409
│   ├── TooLarge              413
│   ├── WrongMediaType        415
│   ├── Invalid               422  read, but not acceptable; names each pointer
│   ├── TooMany               429
│   │   └── Overloaded        503  nobody's own limit: all have too much work
│   └── WorkFailed            500  what it asked for was run, and failed
└── JobError                  why a job failed; becomes the job's `error`
"""

from collections.abc import Sequence
from dataclasses import dataclass


class HeadraceError(Exception):
    """Root of every error this project raises on purpose."""

    code = "internal_error"
    retryable = False


class SettingsError(HeadraceError):
    """Settings are missing or wrong. `problems` has one line for each."""

    code = "settings_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class Unavailable(HeadraceError):
    """A service this process needs is out of reach; trying again later is right."""

    code = "unavailable"
    retryable = True


class NoRoom(Unavailable):
    """A service answers, but its disk is full or fails, or its memory or connections are used up.

    Reading may still work. Somebody has to make room, so coming back at once is of no use.
    """

    code = "no_room"


@dataclass(frozen=True)
class FieldError:
    """One wrong place in a request. `pointer` is a JSON pointer (RFC 6901) into the body."""

    pointer: str
    code: str
    message: str


class RequestError(HeadraceError):
    """A request that can't be served as it is."""

    def __init__(self, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        super().__init__(f"{code}: {detail}")


class Malformed(RequestError):
    """The request can't be read: not JSON, not UTF-8, a bad header."""


class Unauthenticated(RequestError):
    """No key, or one that is unknown, revoked or expired."""


class Forbidden(RequestError):
    """The key lacks the scope."""


class NotFound(RequestError):
    """There is no such thing for this tenant."""


class Conflict(RequestError):
    """The state of the thing does not allow it."""


class TooLarge(RequestError):
    """The body is over a limit."""


class WrongMediaType(RequestError):
    """The Content-Type or Content-Encoding is not one we read."""


class Invalid(RequestError):
    """Readable but not acceptable; `errors` names each pointer."""


class TooMany(RequestError):
    """Over a limit; `retry_after_s` says when to come back, `violated` names the policies."""

    retryable = True

    def __init__(self, code: str, detail: str, retry_after_s: float, violated: Sequence[str] = ()) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s
        self.violated = tuple(violated)


class Overloaded(TooMany):
    """The whole system has more work than it gets through in time; nobody's own limit."""


class WorkFailed(RequestError):
    """The model failed at what was asked for, where the answer is no job that could say so."""


class JobError(HeadraceError):
    """Why a job failed. A model may raise it to choose the code and whether a retry makes sense."""

    def __init__(self, code: str, message: str, retryable: bool = False) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        super().__init__(f"{code}: {message}")
