"""The long form: `python -m tests.chaos --seeds 20`. Writes its runs to docs/reliability.json, from which
`docs/generate.py` makes the table of docs/reliability.md. Ends with 1 if anything promised did not hold.
"""

import argparse
import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from tests.chaos.field import Field, open_field
from tests.chaos.frame import Run, run
from tests.chaos.scenarios import SCENARIOS, Scenario

DATA = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"


def main() -> int:
    """Run what is asked for, write it down, and say what did not hold."""
    parser = argparse.ArgumentParser(description="Every fault with many seeds.")
    parser.add_argument("--seeds", type=int, default=20, help="the last seed; each plays every scenario")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--stacks", type=int, default=2, help="stacks side by side; most of a run is waiting")
    parser.add_argument(
        "--only", nargs="*", help="names of scenarios", choices=[one.name for one in SCENARIOS]
    )
    parser.add_argument("--runs", type=Path, help="where to note each run as it ends; what is there counts")
    options = parser.parse_args()
    scenarios = [one for one in SCENARIOS if not options.only or one.name in options.only]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        runs = options.runs.absolute() if options.runs else Path(folder) / "runs.jsonl"
        for alone, paired in ((True, False), (False, False), (False, True)):
            names = [one.name for one in scenarios if (one.alone, one.paired) == (alone, paired)]
            step = 1 if alone else options.stacks
            shares = [range(options.first + one, options.seeds + 1, step) for one in range(step)]
            with ProcessPoolExecutor(step) as pool:
                list(pool.map(_share, shares, repeat(names), repeat(runs), repeat(Path(folder))))
        return write(runs)


def write(runs: Path) -> int:
    """Make the data file of the runs that were noted. Returns 1 if one of them broke a promise."""
    noted = [json.loads(line) for line in runs.read_text().splitlines()]
    found = []
    for scenario in SCENARIOS:
        mine = sorted((one for one in noted if one["scenario"] == scenario.name), key=lambda one: one["seed"])
        if mine:
            about = {"name": scenario.name, "fault": scenario.fault, "promise": scenario.promise}
            found.append({**about, "bound_s": scenario.bound_s, "runs": mine})
    about_all = {"when": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    DATA.write_text(json.dumps({**about_all, "scenarios": found}, indent=1) + "\n")
    return int(any(_broken(one) for one in found))


def _broken(scenario: dict[str, Any]) -> bool:
    times = sorted(one["recovered_s"] for one in scenario["runs"] if not one["violations"])
    late = not times or times[math.ceil(0.99 * len(times)) - 1] > scenario["bound_s"]
    if late:
        print(f"{scenario['name']}: p99 of recovery is over {scenario['bound_s']} s", file=sys.stderr)
    return late or any(one["violations"] for one in scenario["runs"])


def _share(seeds: Sequence[int], names: Sequence[str], runs: Path, folder: Path) -> None:
    """One stack's seeds of scenarios of one kind. A stack on which something went wrong is left, and another
    one goes on.
    """
    with contextlib.ExitStack() as held:
        field: Field | None = None
        for seed in seeds:
            for scenario in [one for one in SCENARIOS if one.name in names]:
                if field is None:
                    state_dir = Path(tempfile.mkdtemp(dir=folder)) / "state"
                    field = held.enter_context(open_field(state_dir, long=True, paired=scenario.paired))
                done = _one(field, scenario, seed)
                with runs.open("a") as file:
                    file.write(json.dumps(asdict(done)) + "\n")
                print(f"{scenario.name} {seed}: {done.recovered_s:.1f} s {done.violations or ''}", flush=True)
                if done.violations:
                    held.close()
                    field = None


def _one(field: Field, scenario: Scenario, seed: int) -> Run:
    try:
        return run(field, scenario, seed)
    except Exception as error:
        return Run(scenario.name, seed, 0, 0.0, [f"{type(error).__name__}: {error}"])


if __name__ == "__main__":
    sys.exit(main())
