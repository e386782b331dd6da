"""How long new work has to wait for its turn, from what waits before it and who works it off."""

from dataclasses import dataclass

from app.domain.lanes import Lane


@dataclass(frozen=True, slots=True)
class Load:
    """What waits for one kind of device: jobs, and the seconds that one child needs for them (None: unknown);
    and how many children listen to either lane, and to both.
    """

    interactive: int
    batch: int
    interactive_s: float | None
    batch_s: float | None
    on_interactive: int
    on_batch: int
    on_both: int
    oldest_s: float = 0.0
    """For how long the oldest interactive job has waited."""

    def jobs(self, lane: Lane) -> int:
        """What is before a new job of this lane: the interactive lane goes first."""
        return self.interactive if lane is Lane.INTERACTIVE else self.interactive + self.batch

    def seconds(self, lane: Lane, more: int = 0) -> float | None:
        """Until a new job's turn comes, with `more` interactive jobs than were counted; None if unknown.

        Children of the batch lane that listen to both lanes have their part of the interactive work first.
        """
        if not self.jobs(lane):
            return 0.0
        if self.interactive_s is None:
            return None
        first_s = self.interactive_s * (1 + more / self.interactive if self.interactive else 1)
        if lane is Lane.INTERACTIVE:
            return first_s / self.on_interactive if self.on_interactive else None
        if self.batch_s is None or not self.on_batch:
            return None
        before_s = first_s * self.on_both / self.on_interactive if self.on_interactive else 0.0
        return (before_s + self.batch_s) / self.on_batch
