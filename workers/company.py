"""Whose jobs came to a child lately: with several tenants, each waits for what the others have claimed."""

from collections.abc import Callable, Sequence

from app.domain.stages import ClaimedJob

LATELY_S = 60.0


class Company:
    """The last two tenants of one child's last minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[int | None, float] = {}

    def note(self, jobs: Sequence[ClaimedJob]) -> None:
        """These were claimed now."""
        now = self._clock()
        seen = {tenant: at for tenant, at in self._seen.items() if now - at < LATELY_S}
        seen |= dict.fromkeys((job.tenant_id for job in jobs), now)
        # The two that came last say it all: whoever came before them is forgotten before them.
        self._seen = dict(sorted(seen.items(), key=lambda pair: pair[1])[-2:])

    @property
    def several(self) -> bool:
        """Whether there was more than one, at the last claim."""
        return len(self._seen) > 1
