"""Every code that the source raises is explained, and every explained code is raised by something."""

import re
from pathlib import Path

import app
from app.api.catalogue_of_errors import CODES

SOURCE = Path(app.__file__).parent
_RAISED = re.compile(
    r"\b(?:Malformed|Unauthenticated|Forbidden|NotFound|Conflict|TooLarge|WrongMediaType|Invalid|WorkFailed|TooMany"
    r"|Overloaded|_invalid)"
    r'\(\s*"(\w+)"'
)
# Raised by operators' commands, never by a request.
OPERATORS = {"unknown_scope", "version_exists"}
# Given by the framework's errors or by classes of their own, or still to come.
ELSEWHERE = {
    "not_found",
    "method_not_allowed",
    "internal_error",
    "unavailable",
    "no_room",
    "not_ready",
    "range_not_satisfiable",
    "storage_not_configured",
}


def raised() -> dict[str, Path]:
    found = {}
    for folder in ("api", "intake"):
        for path in (SOURCE / folder).glob("*.py"):
            for code in _RAISED.findall(path.read_text()):
                found[code] = path
    return found


def test_every_code_raised_is_explained() -> None:
    bad_models = {code for code, path in raised().items() if path.name in ("source.py", "registry.py")}
    assert set(raised()) - set(CODES) <= OPERATORS | bad_models


def test_every_code_explained_is_raised() -> None:
    assert set(CODES) - set(raised()) <= ELSEWHERE | {"too_many_waiters", "embedding_timeout"}


def test_statuses_fit_the_class_that_raises_them() -> None:
    expected = {
        "Malformed": 400,
        "Conflict": 409,
        "NotFound": 404,
        "TooLarge": 413,
        "Invalid": 422,
        "WorkFailed": 500,
    }
    for path in [*(SOURCE / "intake").glob("*.py"), *(SOURCE / "api").glob("*.py")]:
        for kind, code in re.findall(
            r'\b(Malformed|Conflict|NotFound|TooLarge|Invalid|WorkFailed)\(\s*"(\w+)"', path.read_text()
        ):
            if code in CODES:
                assert CODES[code].status == expected[kind], (path, code)
