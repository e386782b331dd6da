"""How long to go by a count of what waits before it is made anew.

By the time that Postgres counted, not by how long the count was waited for: a busy process waits long for
what took a moment, and would go by old counts just when much comes in.
"""

_AT_MOST = 1 / 20
"""The share of time that Postgres may count for one asker."""


def rest_s(took_s: float, least_s: float) -> float:
    """For how many seconds a count holds that took Postgres `took_s`; never under `least_s`."""
    return max(least_s, took_s / _AT_MOST)
