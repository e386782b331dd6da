"""Write the tables that are made from code into the documents: `python docs/generate.py`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. tests/unit/test_docs.py fails while one is
not what this makes.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from app.api.catalogue_of_errors import CODES
from app.observability import metrics
from app.settings import PREFIX, Settings

DOCS = Path(__file__).resolve().parent


def settings_table() -> str:
    """Every setting with its default and its sentence."""
    rows = ["| Variable | Default | What it is |", "|---|---|---|"]
    for name, default, meaning in _settings(Settings, PREFIX):
        rows.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(rows)


def errors_table() -> str:
    """Every error code of the HTTP API."""
    rows = ["| Code | Status | Meaning |", "|---|---|---|"]
    for entry in CODES.values():
        rows.append(f'| <a id="{entry.code}"></a>`{entry.code}` | {entry.status} | {entry.meaning} |')
    return "\n".join(rows)


def metrics_table() -> str:
    """Every metric by the name that a scraper sees."""
    rows = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(rows)


def reliability_table() -> str:
    """What `make chaos` found last: for each fault its seeds and how long recovery took."""
    found = json.loads((DOCS / "reliability.json").read_text())
    rows = [
        f"Runs of {found['when']}. {found['machine']}",
        "",
        "| Fault | Promise | Seeds | Jobs | Broken promises | Recovery p50, p99 (bound) |",
        "|---|---|---|---|---|---|",
    ]
    for one in found["scenarios"]:
        times = sorted(run["recovered_s"] for run in one["runs"] if not run["violations"])
        middle, late = (times[math.ceil(share * len(times)) - 1] for share in (0.5, 0.99))
        jobs, broken = (
            sum(run["jobs"] for run in one["runs"]),
            sum(len(run["violations"]) for run in one["runs"]),
        )
        rows.append(
            f"| {one['fault']} | {one['promise']} | {len(one['runs'])} | {jobs} | {broken} "
            f"| {middle:.1f} s, {late:.1f} s ({one['bound_s']} s) |"
        )
    return "\n".join(rows)


TABLES = {
    "reliability": (DOCS / "reliability.md", reliability_table),
    "metrics": (DOCS / "metrics.md", metrics_table),
    "settings": (DOCS / "guides" / "operate.md", settings_table),
    "errors": (DOCS / "errors.md", errors_table),
}


def generated(name: str) -> str:
    """The whole document with its table made anew."""
    path, make = TABLES[name]
    text = path.read_text()
    fresh = re.sub(
        rf"(<!-- table: {name} -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{make()}\n{match[2]}",
        text,
        count=1,
        flags=re.DOTALL,
    )
    assert f"<!-- table: {name} -->" in text, f"{path} has no place for the table {name}"
    return fresh


def _settings(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in group.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name.upper()}_")
            continue
        if field.is_required():
            default = "required"
        elif field.default in (None, (), {}):
            default = "none"
        else:
            default = f"`{_spelled(field.default)}`"
        sentences = [f"{field.description.rstrip('.')}." if field.description else ""]
        if get_origin(kind) is Literal:
            sentences.append("One of " + ", ".join(f"`{value}`" for value in get_args(kind)) + ".")
        if "Secret" in str(kind):
            sentences.append("Secret.")
        yield f"{prefix}{name.upper()}", default, " ".join(sentences).strip().replace("|", "\\|")


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    for name, (path, _) in TABLES.items():
        path.write_text(generated(name))
