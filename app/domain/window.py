"""How many jobs one claim takes: enough to sort by length, few enough for others to get their share."""

from dataclasses import dataclass
from math import ceil

from app.domain.cost import Cost
from app.domain.lanes import Lane
from app.domain.planning import LEAST_S, Caps

WORTH_S = {Lane.INTERACTIVE: 1.0, Lane.BATCH: 2.0}
"""Seconds of predicted work in a window. Longer ones pad less; what is claimed is beyond the reach of a
higher priority and of other children."""
SHARED_S = 0.25
"""The same in the interactive lane while several tenants' jobs come: what one's are claimed, others wait for.
It costs a few per cent of padding."""
CRUMB_S = 0.15
"""With every child busy, not worth dividing: whoever ends first waits no longer for the others to end."""
OVERHEAD = 0.25
"""A micro-batch is worth its fixed cost when that is at most this share of the rest."""
UNKNOWN = 2
"""Micro-batches in a window as long as no time can be predicted."""
MOST = 384
"""Jobs in a window, unless one micro-batch holds more: they may have to be released, and a claim of so many
takes a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """Claim `1/sharers` of what is ready, but at least `least` and at most `most` jobs."""

    most: int
    least: int
    sharers: int = 1


def window_for(
    lane: Lane,
    cost: Cost | None,
    mean_units: float,
    caps: Caps,
    *,
    children: int = 1,
    idle: int = 0,
    ahead_s: float = 0.0,
    several: bool = False,
) -> Window:
    """The window of a child with this many `children` in its worker, itself included, `idle` others of
    which have nothing to do. `cost` is None as long as nothing is known. A window that is claimed `ahead_s`
    before its time is worth that much less, so that who comes after the claim waits no longer for it.
    `several` tenants' jobs come.

    While somebody is idle, work is shared down to the smallest micro-batch that is worth its fixed cost.
    With all busy, the backlog is the batch, and it is shared only where one would end long before another.
    """
    caps = caps.within(cost, mean_units)
    room = caps.items
    if caps.units is not None:
        room = max(1, min(room, int(caps.units / mean_units)))
    if cost is None:
        most, worth, crumb = UNKNOWN * room, room, room
    else:
        each = max(cost.per_unit * mean_units + cost.per_item, LEAST_S)
        worth = min(room, ceil(cost.fixed / (OVERHEAD * each)) or 1)
        shared = each + cost.fixed / room
        # Never less than one micro-batch that is worth it, however slow the model.
        seconds = SHARED_S if several and lane is Lane.INTERACTIVE else WORTH_S[lane]
        most = max(worth, min(int((seconds - ahead_s) / shared), max(MOST, UNKNOWN * room)))
        crumb = max(worth, min(int(CRUMB_S / shared), most))
    if idle:
        return Window(most, min(worth, most), idle + 1)
    return Window(most, crumb, children)
