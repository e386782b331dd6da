"""Embeddings as OpenAI's clients see them: a list of vectors, each as numbers or as base64."""

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import orjson

from app.intake.embedding_request import Encoding


def vector(output: Any, encoding: Encoding) -> bytes:
    """The `embedding` of a job's output as JSON text. Raises `ValueError` if it has none.

    Text and not numbers, because thousands of vectors are held until the last is there: a text takes a third.
    """
    numbers = output.get("embedding") if isinstance(output, dict) else None
    if not isinstance(numbers, list):
        raise ValueError("the output has no embedding")
    try:
        floats = array("f", numbers)
    except TypeError:
        raise ValueError("the embedding is not a list of numbers") from None
    if encoding == "float":
        return orjson.dumps(numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return b'"%b"' % base64.b64encode(floats)


def answer(model: str, vectors: Sequence[bytes], tokens: int) -> dict[str, Any]:
    """The answer's body, for orjson. `vectors` are as `vector` makes them, in the order of the texts."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": orjson.Fragment(text)}
            for index, text in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
