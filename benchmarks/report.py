"""The page of figures: tables with medians and ranges, and plots of the same."""

import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from app.cores import cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.compare import Series

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
RAW, CLASSIC = "raw sorted loop", "flask-celery"
_VERSIONS = ("torch", "celery", "Flask", "SQLAlchemy", "psycopg")


def comparison(series: "Sequence[Series]", texts: int, plot: Path) -> str:
    """The comparison as Markdown, and its plot drawn to `plot`."""
    _bars(series, plot)
    medians = {one.system: statistics.median(one.rates) for one in series}
    lines = [
        f"{texts} texts a round, {len(series[0].rates)} rounds, each system once a round. {machine()}",
        "",
        "| System | texts/s, median (range) | of the raw loop | × Flask + Celery | idle p50 |",
        "|---|---|---|---|---|",
    ]
    for one in series:
        rate = medians[one.system]
        lines.append(
            f"| {one.system} | {rate:.0f} ({min(one.rates):.0f}–{max(one.rates):.0f}) "
            f"| {_ratio(rate, medians.get(RAW))} | {_ratio(rate, medians.get(CLASSIC))} "
            f"| {f'{statistics.median(one.idle_ms):.0f} ms' if one.idle_ms else ''} |"
        )
    return "\n".join([*lines, "", f"![texts per second, by system](plots/{plot.name})", ""])


def replace_section(name: str, text: str, path: Path = PAGE) -> None:
    """Put `text` between the marks of this section of a page, in place of what is there."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    page = path.read_text()
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise RuntimeError(f"{path} has no section {name!r}")
    path.write_text(f"{head}{begin}{text}{end}{tail}")


def machine() -> str:
    """What the figures were measured on, in one sentence."""
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    return f"{cores()} cores of {processor()}; Python {platform.python_version()}, {versions}."


def processor() -> str:
    """The processor's name, as well as the system knows it, and what it has for matrices."""
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        facts = dict(line.split("\t", 1) for line in info.read_text().splitlines() if "\t" in line)
        name = facts.get("model name", f": {name}").lstrip("\t: ")
        flags = facts.get("flags", "")
    special = [word for word in ("avx512f", "avx512_bf16", "amx_bf16") if word in flags.split()]
    return f"{name} ({', '.join(special)})" if special else name


def _ratio(rate: float, base: float | None) -> str:
    return "" if base is None else f"{rate / base:.2f}"


def _bars(series: "Sequence[Series]", plot: Path) -> None:
    names = [one.system for one in series]
    medians = [statistics.median(one.rates) for one in series]
    ranges = [
        [middle - min(one.rates) for one, middle in zip(series, medians, strict=True)],
        [max(one.rates) - middle for one, middle in zip(series, medians, strict=True)],
    ]
    colors = ["tab:blue" if "Headrace" in name else "0.6" for name in names]
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(series) + 1), layout="constrained")
    axes.barh(names, medians, xerr=ranges, color=colors, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("texts per second, median and range")
    save(figure, plot)


def save(figure: "Figure", plot: Path) -> None:
    """Write a plot, without its date: the same figures are the same file."""
    plot.parent.mkdir(exist_ok=True)
    figure.savefig(plot, metadata={"Date": None})
    pyplot.close(figure)
