"""The one error of the embedded stack: it can't be started or stopped, and why."""

from app.errors import HeadraceError


class StackError(HeadraceError):
    """What went wrong and what to do, for the person at the terminal. Never holds a secret."""

    code = "stack_failed"
