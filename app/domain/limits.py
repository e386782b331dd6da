"""What a tenant may: its limits, each None for the server's default and 0 for none."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """A tenant's own limits. Requests are in any 60 seconds; jobs and bytes are at a time."""

    requests_per_minute: int | None = None
    key_requests_per_minute: int | None = None
    queued_jobs: int | None = None
    in_flight_jobs: int | None = None
    stored_bytes: int | None = None

    def of_key(self, requests_per_minute: int | None) -> "TenantLimits":
        """The same for a key that may have a limit of its own."""
        if requests_per_minute is None:
            return self
        return replace(self, key_requests_per_minute=requests_per_minute)


def effective(own: int | None, default: int) -> int:
    """The limit that holds; 0 is none."""
    return default if own is None else own
