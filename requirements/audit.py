"""Ask the advisory database about every package of the locks: `make audit`.

Ends with 0 if each was looked up and none has a known vulnerability, with 1 if one has, and with 2 if the
database could not be asked, so that no answer is never taken for a good one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def audited(lock: Path) -> tuple[list[dict[str, Any]], str]:
    """Each package of a lock as pip-audit saw it, and why there is none if there is none."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(lock),
        "--require-hashes",
        "--disable-pip",
    ]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        return [], (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]
    packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return packages, ""


def main() -> int:
    """Print a line for each lock, and one for each advisory."""
    advisories = unknown = 0
    for lock in sorted(HERE.glob("*.txt")):
        packages, why = audited(lock)
        skipped = [package for package in packages if "skip_reason" in package]
        found = [(package, each) for package in packages for each in package.get("vulns", [])]
        advisories += len(found)
        unknown += len(skipped) or not packages
        looked_up = len(packages) - len(skipped)
        print(f"{lock.name}: {looked_up} looked up, {len(skipped)} not, {len(found)} advisories")
        for package, each in found:
            fixed = ", ".join(each["fix_versions"]) or "no version"
            print(f"  {package['name']}=={package['version']}: {each['id']}, fixed in {fixed}")
        if why or skipped:
            print(f"  NOT AUDITED: {why or skipped[0]['skip_reason']}")
    if unknown:
        print("The database could not be asked, or does not know them: nothing is said about these packages.")
    return 1 if advisories else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
