"""What bounds a child: its lease by its own clock, a C timer that nothing holds up, the memory limit."""

import subprocess
import sys
import textwrap

import pytest

from workers.lease import SAFETY, Lease
from workers.runners.device import is_out_of_memory

HELD_GIL = "all(itertools.repeat(True))"


def run(code: str) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own, since its end is what is tested."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_lease_counts_from_when_the_sign_of_life_was_sent() -> None:
    now = 100.0
    lease = Lease(30, lambda: now)
    assert lease.left() is None
    assert not lease.is_over()
    sent_at = lease.now()
    now = 103.0
    lease.renew(sent_at)
    assert lease.left() == pytest.approx(30 * SAFETY - 3)
    now = 100 + 30 * SAFETY
    assert lease.is_over()


@pytest.mark.parametrize("how", [f"import itertools; {HELD_GIL}", "import time; time.sleep(60)"])
def test_a_model_that_outlives_the_lease_is_ended_with_its_process(how: str) -> None:
    done = run(
        f"""
        from workers import watchdog
        from workers.lease import Lease
        lease = Lease(0.5)
        watchdog.watch(lease)
        lease.renew(lease.now())
        with watchdog.guarded(60):
            {how}
        """
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_a_lease_that_is_renewed_ends_nothing() -> None:
    done = run(
        """
        import time
        from workers import watchdog
        from workers.lease import Lease
        lease = Lease(0.5)
        watchdog.watch(lease)
        lease.renew(lease.now())
        with watchdog.guarded(60):
            first = time.monotonic() + 0.5
            while time.monotonic() < first + 0.1:
                lease.renew(lease.now())
        while lease.left() > -0.1:
            pass  # Nothing is guarded: its end ends nothing.
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own memory")
def test_beyond_the_memory_limit_an_allocation_fails_and_the_process_goes_on() -> None:
    done = run(
        """
        from workers.runners import memory
        assert memory.limit(200) == 200
        try:
            bomb = []
            while True:
                bomb.append(bytearray(2**20))
        except MemoryError:
            held = len(bomb)
            del bomb
        bytearray(100 * 2**20)
        print(held)
        """
    )
    assert done.returncode == 0, done.stderr
    assert 100 < int(done.stdout) < 200


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at x.cpp:1] DefaultCPUAllocator: can't allocate memory: you …"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
