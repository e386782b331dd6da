"""Forming micro-batches: sort by size, pack under the caps, counting padding.

An item is padded to the longest of its micro-batch, so lengths are sorted first: neighbours are nearly
equal and little is wasted. A job that was part of a crash carries a cap on the size of its company.
"""

from collections.abc import Sequence

from app.domain.stages import MicroBatch, PreparedJob


def form(jobs: Sequence[PreparedJob], *, max_items: int, max_units: int | None = None) -> list[MicroBatch]:
    """Partition `jobs` into micro-batches.

    Every job is in exactly one. None has more than `max_items` items, more than `max_units` units
    counting padding (unless it is a single job, larger than the cap by itself), or more than the
    smallest `batch_cap` among its jobs. Suspects (jobs with a cap) run after the others, so that a
    poison input delays nobody.
    """
    if max_items < 1:
        raise ValueError("max_items must be at least 1")
    batches: list[MicroBatch] = []
    current: list[PreparedJob] = []
    cap = max_items
    for prepared in sorted(jobs, key=_order):
        own = min(max_items, prepared.job.batch_cap or max_items)
        size = len(current) + 1
        # Sorted ascending among equals of suspicion, so the newcomer is the longest.
        longest = max(prepared.units, current[-1].units if current else 0)
        too_wide = max_units is not None and size * longest > max_units
        if current and (size > min(cap, own) or too_wide):
            batches.append(MicroBatch(tuple(current)))
            current, cap = [], max_items
        current.append(prepared)
        cap = min(cap, own)
    if current:
        batches.append(MicroBatch(tuple(current)))
    return batches


def _order(prepared: PreparedJob) -> tuple[bool, int]:
    return (prepared.job.batch_cap is not None, prepared.units)
