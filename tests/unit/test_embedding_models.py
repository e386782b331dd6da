"""Which models embed is told by their schemas, as pydantic writes them."""

from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, RootModel

from app.errors import Invalid
from app.intake.embedding_models import check_dimensions, check_embeds
from tests.support.models import ECHO_SPEC


class Vector(RootModel[list[float]]):
    """A vector with a name of its own."""


class Text(BaseModel):
    text: str


class OptionalText(BaseModel):
    text: str | None = None
    lang: str = "en"


class TextAndMore(BaseModel):
    text: str
    lang: str


class Number(BaseModel):
    text: int


class Named(BaseModel):
    embedding: Vector


class Sized(BaseModel):
    embedding: Annotated[list[float], Field(min_length=3, max_length=3)]
    note: str = ""


class Whole(BaseModel):
    embedding: list[int]


class Words(BaseModel):
    embedding: list[str]


class Lists(BaseModel):
    embedding: list[list[float]]


class Label(BaseModel):
    label: str


def spec(takes: type[BaseModel], answers: type[BaseModel]) -> Any:
    return replace(
        ECHO_SPEC,
        input_schema=takes.model_json_schema(),
        output_schema=answers.model_json_schema(mode="serialization"),
    )


@pytest.mark.parametrize(
    ("takes", "answers"),
    [(Text, Sized), (Text, Whole), (Text, Named), (OptionalText, Sized)],
)
def test_a_text_in_and_numbers_out_is_embedding(takes: type[BaseModel], answers: type[BaseModel]) -> None:
    check_embeds(spec(takes, answers))


@pytest.mark.parametrize(
    ("takes", "answers"),
    [(TextAndMore, Sized), (Number, Sized), (Label, Sized), (Text, Words), (Text, Lists), (Text, Label)],
)
def test_anything_else_is_not(takes: type[BaseModel], answers: type[BaseModel]) -> None:
    with pytest.raises(Invalid, match="model_does_not_embed"):
        check_embeds(spec(takes, answers))


@pytest.mark.parametrize("schema", [{}, {"properties": {"embedding": True}}, {"$ref": "#/$defs/gone"}])
def test_an_odd_schema_is_refused_and_no_bug(schema: dict[str, Any]) -> None:
    for field in ("input_schema", "output_schema"):
        with pytest.raises(Invalid):
            check_embeds(replace(spec(Text, Sized), **{field: schema}))


def test_dimensions_are_the_models_own_or_none() -> None:
    check_dimensions(spec(Text, Sized), None)
    check_dimensions(spec(Text, Sized), 3)
    check_dimensions(spec(Text, Whole), None)
    for answers, told in ((Sized, "must be 3 or absent"), (Whole, "does not tell the size")):
        with pytest.raises(Invalid, match=told):
            check_dimensions(spec(Text, answers), 4)
