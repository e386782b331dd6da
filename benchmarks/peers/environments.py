"""A virtual environment per peer, made on demand and kept."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".bench"


@dataclass(frozen=True)
class Environment:
    """Where a peer is installed. Torch and the model are found in the project's environment, after it."""

    name: str
    requirement: str

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def install(self) -> None:
        """Make it unless it is there. Takes a minute or two the first time."""
        done = FOLDER / self.name / "done"
        if done.exists() and done.read_text() == self.requirement:
            return
        FOLDER.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER / self.name], check=True)
        subprocess.run(
            [
                self.python,
                "-I",
                "-m",
                "pip",
                "install",
                "-qq",
                "--disable-pip-version-check",
                self.requirement,
            ],
            check=True,
            cwd=FOLDER,
        )
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([self.python, "-c", where], check=True, capture_output=True, text=True)
        Path(own.stdout.strip(), "project.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
        done.write_text(self.requirement)
