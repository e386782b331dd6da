"""One variant in a process of its own, for `headracectl models tune`: a crash of it is a row in a table.

It reads one JSON object a line and answers each with one: first `{spec, device, threads, inputs, items,
exports_dir}`,
answered with what loading cost and what the model says to the inputs; then `{}` for each round, answered with
the seconds that all micro-batches took. Whatever models print goes to stderr.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from app.domain.lanes import Device
from app.domain.model import ModelSpec
from app.errors import JobError
from workers.runners import device as devices
from workers.runners.local import LoadFailed, LocalRunner, Nobody
from workers.runners.memory import resident_mb


def main() -> None:
    """Answer until stdin ends."""
    # A copy of stdout for us alone: what a model prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    order = json.loads(sys.stdin.readline())
    devices.limit_threads(order["threads"], 1)
    spec = ModelSpec(**{**order["spec"], "device": Device(order["spec"]["device"])})
    folder = Path(order["exports_dir"]) if order["exports_dir"] else None
    started = time.perf_counter()
    try:
        runner = LocalRunner.load(spec, order["device"], folder)
        load_s = time.perf_counter() - started
        values = [runner.read(value) for value in order["inputs"]]
        batches = _batches(values, runner, order["items"])
        # As jobs would find it: what the first micro-batches of each size cost is no part of a round.
        outputs = _outputs(runner, [value for value, _ in values], batches)
    except (LoadFailed, JobError) as error:
        _say(answers, {"error": str(error)})
        return
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return
    said = {"load_s": load_s, "size": runner.size, "outputs": outputs}
    _say(answers, {**said, "warm_s": time.perf_counter() - started - load_s})
    for _ in sys.stdin:
        started = time.perf_counter()
        for batch in batches:
            runner.run([values[index][0] for index in batch], Nobody())
        _say(answers, {"seconds": time.perf_counter() - started, "rss_mb": resident_mb()})


def _batches(values: list[tuple[Any, int]], runner: LocalRunner, items: int) -> list[list[int]]:
    """The same micro-batches for every variant: neighbours by size, under the version's caps."""
    most = runner.spec.max_batch_units
    batches: list[list[int]] = []
    for index in sorted(range(len(values)), key=lambda index: values[index][1]):
        current = batches[-1] if batches else []
        size = len(current) + 1
        too_wide = most is not None and size * values[index][1] > most
        if not current or size > min(items, runner.caps.items) or too_wide:
            batches.append([])
        batches[-1].append(index)
    return batches


def _outputs(runner: LocalRunner, values: list[Any], batches: list[list[int]]) -> list[Any]:
    """What the model says to each value, parsed; None for an item that failed."""
    outputs: list[Any] = [None] * len(values)
    for batch in batches:
        ran = runner.run([values[index] for index in batch], Nobody())
        for index, output in zip(batch, ran.outputs, strict=True):
            outputs[index] = json.loads(output) if isinstance(output, bytes) else None
    return outputs


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
