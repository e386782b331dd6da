"""What a caller gave, as it is sent."""

from collections.abc import Sequence
from typing import Any


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None: what was not given is not sent."""
    return {name: value for name, value in values.items() if value is not None}


def listed(words: Sequence[str] | None) -> list[str] | None:
    """A list for JSON. One word need not be in a list: it is a sequence, too, but of letters."""
    return [words] if isinstance(words, str) else None if words is None else list(words)
