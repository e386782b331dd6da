"""Which models embed, told by their schemas: a text alone goes in, a list of numbers comes out."""

from typing import Any

from app.domain.model import ModelSpec
from app.errors import FieldError, Invalid

_NUMBERS = ("number", "integer")


def check_embeds(spec: ModelSpec) -> None:
    """Raise `Invalid` (`model_does_not_embed`) unless it takes {"text": …} and answers an `embedding`."""
    needed = set(spec.input_schema.get("required", ()))
    takes_text = needed <= {"text"} and "string" in _types(_member(spec.input_schema, "text"))
    embedding = _embedding(spec)
    numbers = _resolve(spec.output_schema, embedding.get("items"))
    if not takes_text or embedding.get("type") != "array" or numbers.get("type") not in _NUMBERS:
        message = f"{spec.name}@{spec.version} does not turn a text into an embedding"
        raise Invalid(
            "model_does_not_embed", message, [FieldError("/model", "model_does_not_embed", message)]
        )


def check_dimensions(spec: ModelSpec, wanted: int | None) -> None:
    """Raise `Invalid` unless this is the size of the model's vectors, or None."""
    if wanted is None:
        return
    embedding = _embedding(spec)
    size = embedding.get("minItems")
    if size is None or size != embedding.get("maxItems"):
        message = "must be absent: the model does not tell the size of its vectors"
    elif wanted != size:
        message = f"must be {size} or absent: vectors are not cut"
    else:
        return
    raise Invalid(
        "invalid_request", f"/dimensions: {message}", [FieldError("/dimensions", "not_allowed", message)]
    )


def _embedding(spec: ModelSpec) -> dict[str, Any]:
    return _member(spec.output_schema, "embedding")


def _member(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return _resolve(schema, schema.get("properties", {}).get(name))


def _resolve(schema: dict[str, Any], part: Any) -> dict[str, Any]:
    """The part, or what it refers to in `$defs`; empty if it is not there."""
    if not isinstance(part, dict):
        return {}
    if "$ref" not in part:
        return part
    name = str(part["$ref"]).removeprefix("#/$defs/")
    found = schema.get("$defs", {}).get(name)
    return found if isinstance(found, dict) else {}


def _types(part: dict[str, Any]) -> set[Any]:
    """The types it may have, whether it says one or, as for an optional text, some."""
    return {choice.get("type") for choice in part.get("anyOf", [part]) if isinstance(choice, dict)}
