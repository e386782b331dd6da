"""Engines: the variants of `minilm`, each in a process of its own, in turns, over the same texts."""

from app.commands import trials
from app.commands.trials import Conditions
from app.domain.variants import TUNABLE
from app.intake.source import spec_of
from benchmarks.backlog import log_normal_texts
from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack


def run(_: Stack, *, count: int = 256, rounds: int = 3) -> Measured:
    """Texts per second with one thread, sorted, in 16s; and the answers' similarity at worst."""
    spec = spec_of("examples/models/minilm.py:MiniLM")
    inputs = [{"text": text} for text in log_normal_texts(count)]
    figures = []
    for trial in trials.run(spec, TUNABLE, Conditions(inputs, "cpu", 1, 16, rounds)):
        if trial.quality is None or trial.items_per_s is None or trial.rss_mb is None:
            print(f"{trial.variant}: {trial.error}")
            continue
        figures += [
            Figure("engines", f"{trial.variant}", trial.items_per_s, "texts/s", trial.speedup),
            Figure("engines", f"{trial.variant}, worst answer", trial.quality.similarity_min, "of 1"),
            Figure("engines", f"{trial.variant}, memory", trial.rss_mb, "MiB"),
            Figure("engines", f"{trial.variant}, load and first pass", trial.load_s or 0, "s"),
        ]
    return figures
