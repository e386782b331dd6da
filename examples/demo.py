"""`make demo`: start the whole system, run real work through it, check and measure it, stop it.

Exit code 0 only if every check holds. The steps are in demo_steps.py; the stack lives in a folder of its own
under the system's temporary folder, so that a stack of yours is not touched.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from demo_steps import STEPS, Check, Demo, Step, seconds
from headrace import Client
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.embedded.state import StateDir

HEADRACECTL = str(Path(sys.executable).with_name("headracectl"))
UP_S, DOWN_S = 180, 120

# Progress is for the person who watches, and goes to stderr; the result goes to stdout.
progress = Console(stderr=True)


def main() -> int:
    """Run every step; 0 only if every check holds."""
    parser = argparse.ArgumentParser(description="Start Headrace, run real work through it, stop it.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
    as_json = parser.parse_args().json
    # Being terminated ends like Ctrl-C: the stack is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    results: list[tuple[Step, list[Check]]] = []
    whole = False
    try:
        with stack(folder / "state") as demo:
            for number, step in enumerate(STEPS, start=1):
                progress.print(f"[dim]{number:2}/{len(STEPS)}[/] {step.__doc__}")
                results.append((step, run(step, demo)))
        whole = True
    except (subprocess.SubprocessError, KeyboardInterrupt) as error:
        progress.print(f"✘ {escape(str(error) or 'interrupted')}", style="red")
    took = time.monotonic() - began
    ok = whole and all(check.ok is not False for _, checks in results for check in checks)
    report_json(results, ok, took) if as_json else report_table(results, ok, took)
    if ok:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        progress.print(f"logs are in {folder / 'state' / 'logs'}")
    return 0 if ok else 1


@contextmanager
def stack(state_dir: Path) -> Iterator[Demo]:
    """The embedded stack, stopped at the end whatever happens."""
    # Servers and stacks that the shell names are somebody's own; the demo stays away from them.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}

    def operate(*arguments: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [HEADRACECTL, *arguments, "--state-dir", str(state_dir)],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode and arguments[0] != "doctor":
            raise subprocess.SubprocessError(f"headracectl {arguments[0]} failed:\n{done.stderr}")
        return done.stdout

    progress.print("starting Postgres, Valkey, API, workers, webhook sender, clerk, scheduler and Flower")
    began = time.monotonic()
    try:
        operate("up", "--detach", timeout_s=UP_S)
        env = StateDir(state_dir).read_env()
        progress.print(f"ready after {seconds(time.monotonic() - began)}: {env['HEADRACE_URL']}")
        with Client(env["HEADRACE_URL"], env["HEADRACE_API_KEY"]) as client:
            yield Demo(client, env, operate)
    finally:
        progress.print("stopping")
        # A second Ctrl-C must not leave a stack behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        operate("down", timeout_s=DOWN_S)


def run(step: Step, demo: Demo) -> list[Check]:
    """The step's checks; whatever it raises is a check that failed."""
    checks: list[Check] = []
    try:
        checks.extend(step(demo))
    except Exception as error:
        checks.append(Check(type(error).__name__, str(error), ok=False))
    return checks


def report_table(results: list[tuple[Step, list[Check]]], ok: bool, took: float) -> None:
    """A table for a person."""
    table = Table("step", "what", "measured", "", title="Headrace: what this machine just did")
    marks = {None: "", True: "[green]✔[/]", False: "[red]✘[/]"}
    for step, checks in results:
        for number, check in enumerate(checks):
            name = "" if number else step.__name__
            last = number == len(checks) - 1
            cells = (name, escape(check.what), escape(check.measured), marks[check.ok])
            table.add_row(*cells, end_section=last)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    marked = [check.ok for _, checks in results for check in checks]
    said = f"{marked.count(True)} checks passed, {marked.count(False)} failed, {seconds(took)}"
    console.print(marks[ok], said)


def report_json(results: list[tuple[Step, list[Check]]], ok: bool, took: float) -> None:
    """One JSON object for programs."""
    checks = [{"step": step.__name__, **asdict(check)} for step, checks in results for check in checks]
    print(json.dumps({"ok": ok, "seconds": round(took, 2), "checks": checks}, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
