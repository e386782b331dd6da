"""Lanes, priorities and queue names: which workers see a job, and in which order."""

from enum import IntEnum, StrEnum


class Lane(IntEnum):
    """Stored as a small integer, because it stands in every row of the hot tables."""

    INTERACTIVE = 0
    BATCH = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Priority(IntEnum):
    """Lower goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @property
    def label(self) -> str:
        return self.name.lower()


class Device(StrEnum):
    """What kind of worker a model version needs."""

    CPU = "cpu"
    GPU = "gpu"
    REMOTE = "remote"


def queue_name(device: Device, lane: Lane) -> str:
    """The Celery queue that carries the doorbells of one device kind and lane: `cpu.interactive`."""
    return f"{device.value}.{lane.label}"


def parse_queue(name: str) -> tuple[Device, Lane]:
    """The inverse of `queue_name`. Raises `ValueError` for a name that is no queue of ours."""
    device, _, lane = name.partition(".")
    try:
        return Device(device), Lane[lane.upper()]
    except (ValueError, KeyError):
        raise ValueError(f"{name!r} is not a queue: expected DEVICE.LANE, e.g. cpu.interactive") from None
