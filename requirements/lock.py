"""Write the locks beside this file: `make lock`.

A lock names every package that a kind of process is installed with, in the version of `constraints.txt`, with
the hashes of its files: `pip install --require-hashes -r requirements/api.txt`. What a process needs is said
once, by the extras of `setup.cfg`. No address of an index is written: pip asks the one that it is set up for.

PyTorch's builds for CPUs alone are not on the default index. Name theirs by UV_INDEX or UV_FIND_LINKS.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Role:
    """Who is installed by a lock.

    `extras`: those of `setup.cfg`. `pins`: versions other than those of `constraints.txt`. `python`: the only
    Python that the lock is for; else all from 3.11 on.
    """

    extras: tuple[str, ...]
    pins: tuple[str, ...] = ()
    python: str | None = None


_WORKER = ("torch", "examples", "egress", "s3", "tracing", "sentry", "flower")
ROLES = {
    "api": Role(("api", "s3", "tracing", "sentry")),
    "sender": Role(("egress", "tracing", "sentry")),
    # And the clerk, the scaler, Flower and `headracectl`.
    "scheduler": Role(("flower", "s3", "tracing", "sentry")),
    # The hashes of torch's build are those of the Python that the images have.
    "worker": Role(_WORKER, ("torch==2.13.0+cpu",), python="3.11"),
    "worker-cuda": Role(_WORKER),
    "dev": Role(("api", "egress", "embedded", "dev")),
}


def lock(name: str, role: Role) -> None:
    """Write `requirements/NAME.txt`."""
    constraints = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    pinned = {pin.partition("==")[0] for pin in role.pins}
    lines = [line for line in constraints if line.partition("==")[0] not in pinned]
    (HERE / ".constraints").write_text("".join(lines) + "\n".join(role.pins) + "\n")
    _compile(
        [
            *(word for extra in role.extras for word in ("--extra", extra)),
            *("--constraints", "requirements/.constraints"),
            # One file for all machines; for one Python, the machine that this runs on.
            *(
                ("--python-version", role.python)
                if role.python
                else ("--python-version", "3.11", "--universal")
            ),
            "setup.cfg",
        ],
        name,
    )
    (HERE / ".constraints").unlink()
    path = HERE / f"{name}.txt"
    path.write_text(
        path.read_text()
        .replace(", -c requirements/.constraints", "")
        .replace("-c requirements/.constraints, ", "")
    )


def _compile(arguments: list[str], name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-emit-index-url",
    ]
    command += ["--no-emit-find-links", "--custom-compile-command", "make lock", "--annotation-style", "line"]
    subprocess.run([*command, *arguments, "--output-file", f"requirements/{name}.txt"], cwd=ROOT, check=True)


if __name__ == "__main__":
    for name, role in ROLES.items():
        lock(name, role)
    for name in ("build", "tools"):
        _compile(["--python-version", "3.11", "--universal", f"requirements/{name}.in"], name)
