"""The plain loop: no queue, no HTTP, one process, one thread, sorted by length."""

import json
import subprocess
import sys
import time

BATCH = 16


def sorted_loop(texts: list[str], variant: str = "fp32") -> float:
    """Texts per second, measured in a process of its own so that its threads are its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.baselines.torch_loop", variant],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _main() -> None:
    import torch

    from app.intake.source import load_class
    from workers.runners import variants

    torch.set_num_threads(1)
    texts = json.loads(sys.stdin.read())
    model = load_class("examples/models/minilm.py:MiniLM")()
    model.load("cpu")
    variants.apply(model, sys.argv[1], "cpu")
    values = sorted((model.Input(text=text) for text in texts), key=lambda value: len(value.text))
    model.forward(model.prepare(values[:BATCH]), None)  # what the first pass alone costs
    started = time.perf_counter()
    for start in range(0, len(values), BATCH):
        prepared = model.prepare(values[start : start + BATCH])
        model.finish(model.forward(prepared, None))
    print(len(values) / (time.perf_counter() - started))


if __name__ == "__main__":
    _main()
