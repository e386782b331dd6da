"""Variants measured against fp32, each in a process of its own, in turns so that noise hits both alike."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.domain.model import ModelSpec
from app.domain.quality import Quality, compare
from app.domain.variants import Variant


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all variants are measured under."""

    inputs: Sequence[Any]
    device: str
    threads: int
    items: int
    """Most items in a micro-batch."""
    rounds: int
    exports_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What one variant was measured to be."""

    variant: Variant
    items_per_s: float | None = None
    speedup: float | None = None
    """Against fp32, the median over rounds that were run in turns."""
    load_s: float | None = None
    """With compiling and the first pass over the sample."""
    rss_mb: float | None = None
    size_mb: float | None = None
    quality: Quality | None = None
    error: str | None = None


class Ended(Exception):
    """The process of a variant gave no answer; the message says what it said last."""


class Process:
    """A variant, loaded in a process of its own (`workers/runners/trial.py`)."""

    def __init__(self, spec: ModelSpec, variant: Variant, conditions: Conditions) -> None:
        self._stderr = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.runners.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._order = {
            "spec": asdict(replace(spec, variant=variant.value)),
            "device": conditions.device,
            "threads": conditions.threads,
            "inputs": list(conditions.inputs),
            "items": conditions.items,
            "exports_dir": str(conditions.exports_dir) if conditions.exports_dir else None,
        }

    def load(self) -> dict[str, Any]:
        """`load_s`, `warm_s`, `size` (bytes) and `outputs`. Raises `Ended`."""
        return self._ask(self._order)

    def round(self) -> dict[str, Any]:
        """`seconds` for the whole sample and `rss_mb`. Raises `Ended`."""
        return self._ask({})

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                # What a dead process was not told can't be flushed.
                with contextlib.suppress(OSError):
                    stream.close()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Ended(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Ended(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return f"its process {how}" + (f": {lines[-1]}" if lines else "")


def run(spec: ModelSpec, variants: Sequence[Variant], conditions: Conditions) -> Iterator[Trial]:
    """First fp32, then each variant beside it. Ends after fp32 if that fails."""
    with contextlib.closing(Process(spec, Variant.FP32, conditions)) as reference:
        try:
            loaded = reference.load()
            first = [reference.round() for _ in range(conditions.rounds)]
        except Ended as error:
            yield Trial(Variant.FP32, error=str(error))
            return
        answers = loaded["outputs"]
        yield _trial(Variant.FP32, conditions, loaded, first, first, compare(answers, answers))
        for variant in variants:
            with contextlib.closing(Process(spec, variant, conditions)) as candidate:
                try:
                    loaded = candidate.load()
                    rounds = [(reference.round(), candidate.round()) for _ in range(conditions.rounds)]
                except Ended as error:
                    yield Trial(variant, error=str(error))
                    continue
            quality = compare(answers, loaded["outputs"])
            theirs, ours = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
            yield _trial(variant, conditions, loaded, theirs, ours, quality)


def choose(trials: Sequence[Trial], min_similarity: float, min_speedup: float) -> Trial | None:
    """The fastest that passes the quality gate and is worth a version of its own, if there is one."""
    passed = [
        trial
        for trial in trials
        if trial.quality is not None
        and trial.quality.passes(min_similarity)
        and trial.variant is not Variant.FP32
        and (trial.speedup or 0) >= min_speedup
    ]
    return max(passed, key=lambda trial: trial.speedup or 0, default=None)


def _trial(
    variant: Variant,
    conditions: Conditions,
    loaded: dict[str, Any],
    reference: Sequence[dict[str, Any]],
    rounds: Sequence[dict[str, Any]],
    quality: Quality,
) -> Trial:
    return Trial(
        variant,
        items_per_s=len(conditions.inputs) / statistics.median(ran["seconds"] for ran in rounds),
        speedup=statistics.median(
            theirs["seconds"] / ours["seconds"] for theirs, ours in zip(reference, rounds, strict=True)
        ),
        load_s=loaded["load_s"] + loaded["warm_s"],
        rss_mb=max(ran["rss_mb"] for ran in rounds),
        size_mb=loaded["size"] / 2**20,
        quality=quality,
    )
