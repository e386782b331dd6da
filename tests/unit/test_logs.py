"""What logging promises to those who log: it never fails them, and a line stays a line."""

import io
import logging
import os
from collections.abc import Iterator

import pytest

from app.observability import logs
from tests.support.jobs import settings_for


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logs.configure(settings_for("postgresql://", "redis://"), io.StringIO())
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_log_that_nobody_reads_fails_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    # As Python's own stdout is in a process of the stack: unbuffered.
    stream = io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True)  # type: ignore[arg-type]
    logs.configure(settings_for("postgresql://", "redis://"), stream)
    logs.get_logger().info("unheard")
    logging.getLogger("library").error("unheard, too")
    stream.detach().close()
    logs.get_logger().info("to a stream that is no more")
    assert capfd.readouterr().err == ""


def test_a_line_is_written_at_once() -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    written: list[str] = []
    logs.configure(settings_for("postgresql://", "redis://"), Stream())
    logs.get_logger().info("one")
    logging.getLogger("library").error("two")
    assert len(written) == 2
    assert all(text.endswith("}\n") for text in written)
