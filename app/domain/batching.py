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
    smallest `batch_cap` among its jobs. Suspects (jobs with a cap) have company of their own kind only
    and run last, so that a poison input takes nobody with it.
    """
    if max_items < 1:
        raise ValueError("max_items must be at least 1")
    batches: list[MicroBatch] = []
    current: list[PreparedJob] = []
    cap = max_items
    for prepared in sorted(jobs, key=_order):
        own = min(max_items, prepared.job.batch_cap or max_items)
        size = len(current) + 1
        # Sizes ascend within a micro-batch, so the newcomer is the longest.
        too_wide = max_units is not None and size * prepared.units > max_units
        other_kind = bool(current) and _is_suspect(prepared) != _is_suspect(current[-1])
        if current and (size > min(cap, own) or too_wide or other_kind):
            batches.append(MicroBatch(tuple(current)))
            current, cap = [], max_items
        current.append(prepared)
        cap = min(cap, own)
    if current:
        batches.append(MicroBatch(tuple(current)))
    return batches


def _is_suspect(prepared: PreparedJob) -> bool:
    return prepared.job.batch_cap is not None


def _order(prepared: PreparedJob) -> tuple[bool, int]:
    return (_is_suspect(prepared), prepared.units)
