"""The body of `POST /v1/embeddings`, and of every line of a batch for that URL."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from app.errors import FieldError
from app.intake.shapes import Part, Text, invalid, read_as

MAX_TEXTS = 2048
MAX_ERRORS = 100

_INPUT = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": MAX_TEXTS,
        },
    ]
}

Encoding = Literal["float", "base64"]


class EmbeddingRequest(Part):
    """What to embed, and how. A member that is null counts as absent."""

    model: Text = Field(min_length=1, max_length=257, description="`name`, or `name@version`.")
    input: Annotated[Any, WithJsonSchema(_INPUT)] = Field(
        description=f"A text, or 1 to {MAX_TEXTS} of them. Token ids are not taken."
    )
    encoding_format: Encoding | None = Field(
        "float", description="`float`: numbers. `base64`: their bytes, as little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, description="The size of a vector. Only the model's own is taken: none is ever cut."
    )
    user: Text | None = Field(None, description="Taken for OpenAI's clients, and not kept.")


def read(body: Any) -> EmbeddingRequest:
    """The request, every default filled in. Raises `Invalid` naming each wrong place but those in `input`."""
    return read_as(EmbeddingRequest, body)


def texts(asked: EmbeddingRequest) -> list[tuple[str, str]]:
    """Each text with the pointer to its place. Raises `Invalid` naming each place that is no text."""
    value = asked.input
    if isinstance(value, str):
        places = [("/input", value)]
    elif not isinstance(value, list):
        raise invalid([FieldError("/input", "wrong_type", "should be a text or a list of texts")])
    elif not value:
        raise invalid([FieldError("/input", "too_short", "should have at least 1 text")])
    elif isinstance(value[0], int | list):
        message = "must be texts, not token ids: each model has a tokenizer of its own"
        raise invalid([FieldError("/input", "tokens_not_taken", message)])
    elif len(value) > MAX_TEXTS:
        raise invalid([FieldError("/input", "too_long", f"should have at most {MAX_TEXTS} texts")])
    else:
        places = [(f"/input/{index}", item) for index, item in enumerate(value)]
    wrong = [
        FieldError(place, "too_short", "should have at least 1 character")
        if isinstance(text, str)
        else FieldError(place, "wrong_type", "should be a text")
        for place, text in places
        if not isinstance(text, str) or not text
    ]
    if wrong:
        raise invalid(wrong[:MAX_ERRORS])
    return places
