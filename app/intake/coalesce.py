"""Calls that come while one is under way share the next: a round trip for many of them instead of one each.

Nobody waits for company: a call that finds none under way starts at once, alone. So it costs an idle server
nothing, and a busy one makes ever larger groups of what it would otherwise do ever later.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from app.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Runs `run` for groups of at most `most` items, one group at a time, in the order they came.

    `run` returns one result per item; an exception among them is raised to its own caller alone, and one
    that `run` raises to every caller of the group. A group starts after each of its calls did. Safe to share
    among threads and greenlets.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Result | BaseException]], most: int) -> None:
        self._run = run
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Call[Item, Result]] = []
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a group is under way."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many calls wait for the next group."""
        return len(self._waiting)

    def __call__(self, item: Item) -> Result:
        """The item's result. Raises what its group came to."""
        call: _Call[Item, Result] = _Call(item)
        with self._lock:
            self._waiting.append(call)
            leads, self._busy = not self._busy, True
        if not leads:
            self._wait(call)
        if call.result is None:
            self._lead()
        assert call.result is not None
        result = call.result[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def _wait(self, call: "_Call[Item, Result]") -> None:
        """Until there is a result, or none and it is this caller's turn to lead."""
        try:
            call.turn.wait()
        except BaseException:  # a greenlet that is killed: nobody may wait for it
            with self._lock:
                if call in self._waiting:
                    self._waiting.remove(call)
                    if call.turn.is_set():
                        self._call_next()
            raise

    def _lead(self) -> None:
        with self._lock:
            group = self._waiting[: self._most]
            del self._waiting[: self._most]
        # What the others get if this caller is killed meanwhile.
        results: Sequence[Result | BaseException] = [Unavailable("the group was broken off")] * len(group)
        try:
            results = self._run([call.item for call in group])
        except Exception as error:
            results = [error] * len(group)
        finally:
            with self._lock:
                self._call_next()
            for call, result in zip(group, results, strict=True):
                call.result = (result,)
                call.turn.set()

    def _call_next(self) -> None:
        """Let the first that waits lead the next group. With the lock held."""
        if self._waiting:
            self._waiting[0].turn.set()
        else:
            self._busy = False


class _Call(Generic[Item, Result]):
    __slots__ = ("item", "result", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: tuple[Result | BaseException] | None = None
        self.turn = threading.Event()
