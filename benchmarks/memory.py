"""Memory: what a process that runs `minilm` holds after its first jobs, and after many more.

`python -m benchmarks.memory [JOBS]`; needs no stack: the runner alone, as a child loads it.
"""

import subprocess
import sys

from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack

SOURCE = "examples/models/minilm.py:MiniLM"
SETTLED = 1000
"""Jobs after which caches are full and the allocator has what it needs."""
BATCH = 16


def run(_: Stack | None, *, jobs: int = 10_000) -> Measured:
    """MiB after the first jobs, and how much more after `jobs`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(jobs)], capture_output=True, text=True, check=True
    )
    settled, last = map(float, done.stdout.split())
    return [
        Figure("memory", f"minilm, after {SETTLED:,} jobs", settled, "MiB"),
        Figure("memory", f"growth until {jobs:,} jobs", last - settled, "MiB"),
    ]


def _main(jobs: int) -> None:
    from app.intake.source import spec_of
    from workers.runners.device import limit_threads
    from workers.runners.local import LocalRunner, Nobody
    from workers.runners.memory import resident_mb

    limit_threads(1, 1)
    runner = LocalRunner.load(spec_of(SOURCE), "cpu")
    # Sizes from 3 to 66 tokens, in an order that repeats: every width comes early.
    texts = [{"text": "wheel " * (1 + number % 64)} for number in range(BATCH * 64)]
    settled = 0.0
    for start in range(0, jobs, BATCH):
        values = [runner.read(texts[(start + n) % len(texts)])[0] for n in range(BATCH)]
        runner.run(values, Nobody())
        if start < SETTLED <= start + BATCH:
            settled = resident_mb()
    print(settled, resident_mb())


if __name__ == "__main__":
    _main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
