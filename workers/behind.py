"""What a child does behind its back: settle a micro-batch while the next one runs.

One thread, one thing at a time, in order: results are written in the order in which they came about, and
never does more than one micro-batch wait to be written.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Behind:
    """Runs one call at a time in a thread of its own. Its errors come out of the next `do` or `join`."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._doing: Future[object] | None = None

    def do(self, call: Callable[[], object]) -> None:
        """Start the call once the one before has ended. Raises what that one raised, and starts nothing."""
        self.join()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._doing = self._thread.submit(call)

    def join(self) -> None:
        """Wait until nothing is being done. Raises what was raised."""
        doing, self._doing = self._doing, None
        if doing is not None:
            doing.result()

    def wait(self, seconds: float) -> bool:
        """Wait until what is being done now has ended, whatever came of it. Says whether it has."""
        doing = self._doing
        return doing is None or bool(wait([doing], timeout=seconds).done)

    def rest(self) -> None:
        """As `join`, whatever was raised."""
        if self._doing is not None:
            wait([self._doing])
            self._doing = None
