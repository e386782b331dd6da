"""Headers that several endpoints take."""

from uuid import uuid4

_LONGEST_KEY = 255


def key_header(key: str | None) -> dict[str, str]:
    """`Idempotency-Key`: a new one unless given. Raises `ValueError` for what the server would refuse."""
    key = str(uuid4()) if key is None else key
    if not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        raise ValueError(f"an idempotency key is 1 to {_LONGEST_KEY} printable ASCII characters")
    return {"Idempotency-Key": key}
