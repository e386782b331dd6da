"""The documentation is true where a machine can tell: links, tables, words, tests it names, snippets."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from app.api.catalogue_of_errors import CODES
from app.domain import stages, states
from app.embedded.programs import default_workers
from app.settings import Settings
from tests.support.guides import DOCS, ROOT, blocks, matches

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        ROOT / "clients/python/README.md",
    ]
)
VERBS = ("accept", "signal", "claim", "batch", "infer", "settle", "notify")

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """Where a link into the page may point: its headings, as GitHub names them, and its named anchors."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def glossary() -> set[str]:
    text = (DOCS / "glossary.md").read_text()
    return {
        word
        for row in re.findall(r"^\| (\*\*.+?) \|", text, re.MULTILINE)
        for word in re.findall(r"\*\*(.+?)\*\*", row)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:app|workers|tests|examples|migrations|docs|deploy)/[\w./-]+?)(?:::(\w+))?(?::\w+)?`",
        page.read_text(),
    )
    for path, test in named:
        assert (ROOT / path).exists(), path
        if test:
            assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_snippets_compile(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


@pytest.mark.parametrize("name", ["settings", "errors", "metrics", "reliability"])
def test_generated_tables_are_what_the_code_says(name: str) -> None:
    module = generator()
    path, _ = module.TABLES[name]
    assert path.read_text() == module.generated(name), "run: python docs/generate.py"


def test_every_setting_and_every_code_is_in_its_table() -> None:
    operate, errors = (DOCS / "guides" / "operate.md").read_text(), (DOCS / "errors.md").read_text()
    names = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += [f"HEADRACE_{name}_{inner}".upper() for inner in kind.model_fields]
        else:
            names.append(f"HEADRACE_{name}".upper())
    assert not [name for name in names if f"| `{name}` |" not in operate]
    assert not [code for code in CODES if f'<a id="{code}"></a>' not in errors]


def test_every_verb_has_its_chapter() -> None:
    chapters = sorted(path.name for path in (DOCS / "architecture").glob("*.md"))
    assert chapters == [
        "0-overview.md",
        *(f"{number}-{verb}.md" for number, verb in enumerate(VERBS, start=1)),
        "bulk.md",
        "leaving.md",
    ]
    for name in chapters[1:]:
        text = (DOCS / "architecture" / name).read_text()
        for part in ("| In |", "| Out |", "## What happens", "## What it must survive"):
            assert part in text, f"{name}: {part}"


def test_types_in_the_chapters_are_stage_types() -> None:
    for path in (DOCS / "architecture").glob("[1-7]-*.md"):
        for row in re.findall(r"^\| (?:In|Out) \| (.+) \|$", path.read_text(), re.MULTILINE):
            for name in re.findall(r"`([A-Z]\w+)`", row):
                assert hasattr(stages, name), f"{path.name}: {name}"


def test_the_state_machine_is_the_codes() -> None:
    text = (DOCS / "state_machine.md").read_text()
    for kind in (states.Place, states.JobStatus, states.Reason, states.AttemptOutcome):
        for value in kind:
            assert f"`{value.value}`" in text, value
    drawn = (ROOT / "app" / "domain" / "states.py").read_text()
    picture = next(block.text for block in blocks(DOCS / "state_machine.md"))
    assert [line.strip() for line in picture.splitlines()] == [
        line.strip() for line in drawn.splitlines()[2 : 2 + len(picture.splitlines())]
    ]


def test_the_glossary_has_every_word_of_the_code_once() -> None:
    words = glossary()
    wanted = {
        *VERBS,
        "job",
        "attempt",
        "lease",
        "epoch",
        "place",
        "lane",
        "priority",
        "pool",
        "slot",
        "child",
    }
    wanted |= {"doorbell", "bell", "flag", "sweep", "drain", "draining", "window", "micro-batch", "unit"}
    wanted |= {"padding", "rescue", "bury", "promote", "expire", "verdict", "outcome", "crash", "suspect"}
    wanted |= {"batch cap", "fencing", "heartbeat", "lifeline", "watchdog", "wake-up", "waiter", "replay"}
    assert wanted <= words | {"claim", "infer", "notify"}
    rows = re.findall(r"^\| \*\*(.+?)\*\*", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))


def test_errors_of_jobs_are_those_of_the_code() -> None:
    text = (DOCS / "errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", text.partition("## A failed job")[2], re.MULTILINE))
    sources = [*(ROOT / "workers").rglob("*.py"), ROOT / "app" / "db" / "rescue.py"]
    code = "\n".join(path.read_text() for path in sources)
    raised = set(re.findall(r'(?:JobError|Failed|Unfetched)\(\s*"(\w+)"', code)) | set(
        re.findall(r"'code', '(\w+)'", code)
    )
    assert listed == raised


def test_every_verb_has_metrics_by_its_name() -> None:
    text = (DOCS / "metrics.md").read_text()
    for number, verb in enumerate(VERBS, start=1):
        chapter = (DOCS / "architecture" / f"{number}-{verb}.md").read_text()
        assert f"`headrace_{verb}_`" in chapter
        assert f"| `headrace_{verb}_" in text


def test_processes_and_services_are_named() -> None:
    text = (DOCS / "guides" / "operate.md").read_text()
    for worker in default_workers():
        assert f"`{worker.name}`" in text
    scheduler = next(
        line for line in (DOCS / "glossary.md").read_text().splitlines() if "**scheduler**" in line
    )
    services = {path.stem for path in (ROOT / "workers" / "maintenance").glob("[a-z]*.py")} - {"scheduler"}
    assert not [service for service in services if service not in scheduler]


def test_decisions_are_listed_with_evidence() -> None:
    index = (DOCS / "adr" / "README.md").read_text()
    for path in sorted((DOCS / "adr").glob("0*.md")):
        text = path.read_text()
        assert f"({path.name})" in index
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Evidence", "Consequences", "What would change our mind"]
        assert f"# {path.name[:4]}. " in text


def test_nothing_of_where_it_was_written_shows() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/tmp/|localhost:\d|pypi\.|files\.pythonhosted", page.read_text()), page


def test_prose_keeps_to_the_words_of_the_glossary() -> None:
    for page in PAGES:
        text = prose(page)
        assert not re.search(r"\bdrain(?:s|ed) (?:the|a) (?:worker|machine|node)\b", text), page
        assert not re.search(r"\bmicrobatch|\bminibatch|\bmini-batch", text, re.IGNORECASE), page


def test_a_text_block_is_compared() -> None:
    assert matches("key hr_…", "key hr_abc\n")
    assert not matches("ready", "degraded")


def test_events_that_operators_are_told_of_are_logged() -> None:
    section = (DOCS / "guides" / "operate.md").read_text().partition("## Logs")[2].partition("\n## ")[0]
    told = {
        event
        for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
        for event in re.findall(r"`(.+?)`", row)
    }
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    assert told
    assert not [event for event in told if f'"{event}"' not in code]
