"""Lists that come in pages."""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.transport import Transport

_PAGE = 100


def items(
    transport: Transport, path: str, params: Mapping[str, str], limit: int | None
) -> Iterator[dict[str, Any]]:
    """The items of a list, newest first, at most `limit`. A page is fetched when it is reached."""
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise ValueError(f"limit is how many you get in all, or None for all of them, not {limit!r}")
    query = dict(params)
    left = limit
    while left is None or left > 0:
        query["limit"] = str(_PAGE if left is None else min(left, _PAGE))
        page = transport.request("GET", path, params=query).data
        yield from page["data"]
        if left is not None:
            left -= len(page["data"])
        if not page.get("has_more") or not page["data"]:
            return
        query["after"] = page["last_id"]
