"""What is wrong with a model's source is said in one line, with what its author needs to find it."""

from pathlib import Path

import pytest

from app.errors import Invalid
from app.intake.source import load_class, spec_of

GOOD = """
from pydantic import BaseModel
from app.domain.model import Media, Model

class Value(BaseModel):
    value: float

class Mine(Model):
    name = "mine"
    Input = Output = Value
    def predict(self, values):
        return values
"""


def refusal(source: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        spec_of(source)
    assert caught.value.code == "invalid_model"
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("code", "said", "line"),
    [
        ("import nobody_has_this", "ModuleNotFoundError: No module named 'nobody_has_this'", 1),
        ("def half():\n    return 1 / 0\n\nhalf()\n", "ZeroDivisionError: division by zero", 2),
        ("\n\nclass Mine(\n", "SyntaxError: '(' was never closed", 3),
        ("import json\njson.loads('{')\n", "JSONDecodeError: Expecting property name", 2),
        ("assert False", "AssertionError (", 1),
        ("import sys\nsys.exit('not a script')\n", "SystemExit: not a script", 2),
        ("raise OSError('one\\ntwo')", "OSError: one two", 1),
        (
            "from pydantic import BaseModel\nclass Input(BaseModel):\n    value: object()\n",
            "PydanticSchemaGenerationError: Unable to generate",
            2,
        ),
    ],
)
def test_what_the_file_raised_is_named_with_its_line(code: str, said: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code)
    error = refusal(f"{file}:Mine")
    assert error.detail.startswith(f"{file} can't be imported: {said}")
    assert error.detail.endswith(f"({file}:{line})")
    assert error.__cause__ is not None, "the whole traceback is there for who asks for it"


def test_a_module_of_a_package_is_told_from_one_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edgy").mkdir()
    file = tmp_path / "edgy" / "model_of_mine.py"
    file.write_text("\nimport edgy.model\n")
    for name in ("edgy.models", "edgy.models.deep", "edgyer"):
        assert refusal(f"{name}:Mine").detail == f"there is no module {name}"
    lacks = "edgy.model_of_mine can't be imported: ModuleNotFoundError: No module named 'edgy.model'"
    assert refusal("edgy.model_of_mine:Mine").detail == f"{lacks} ({file}:2)"


def test_a_source_that_names_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    for source, said in {
        str(file): f"'{file}' is not FILE.py:CLASS or package.module:CLASS",
        f"{file}x.py:Mine": f"there is no file {file}x.py",
        f"{file}:Yours": f"{file} has no class Yours derived from app.domain.model.Model",
        f"{file}:Value": f"{file} has no class Value derived from app.domain.model.Model",
    }.items():
        assert refusal(source).detail == said


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("name = 'Mine!'", "name must be 1 to 64 of a-z"),
        ("Output = dict", "Output must be a pydantic model"),
        (
            "class Input(BaseModel, arbitrary_types_allowed=True):\n        x: Model",
            "Input has no JSON schema: PydanticInvalidForJsonSchema: Cannot generate",
        ),
        ("class Output(BaseModel):\n        x: Media", "Output can't hold Media"),
        ("max_batch_items = 0", "max_batch_items must be a whole number, 1 to 2147483647"),
        ("max_batch_items = 10**10", "max_batch_items must be a whole number, 1 to 2147483647"),
        ("max_batch_units = 1.5", "max_batch_units must be None or a whole number"),
        ("memory_mb = 'much'", "memory_mb must be a whole number"),
        ("execution_timeout_s = '60'", "execution_timeout_s must be a number of seconds above 0"),
        ("execution_timeout_s = float('inf')", "execution_timeout_s must be a number of seconds above 0"),
        ("unit = 3", "unit must be a text"),
        ("runs_on = 'tpu'", "runs_on must be cpu, gpu or remote"),
        ("predict = Model.predict", "predict (or forward) must be defined"),
    ],
)
def test_an_attribute_that_can_not_be_is_named(attribute: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{GOOD}    {attribute}\n")
    assert refusal(f"{file}:Mine").detail.startswith(f"Mine: {said}")


def test_a_file_that_failed_can_be_mended(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("nothing")
    refusal(f"{file}:Mine")
    file.write_text(GOOD)
    assert load_class(f"{file}:Mine").name == "mine"
