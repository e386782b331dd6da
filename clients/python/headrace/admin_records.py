"""What is kept on the server about who shares it: tenants, their keys, and what operators did."""

from datetime import datetime
from typing import Any

from headrace.record import Record


class Tenant(Record):
    """Who shares the system. Its `id` is its name. Of limits, None is the server's default and 0 is none."""

    @property
    def weight(self) -> int:
        """Its share, against the weights of others whose jobs wait."""
        return int(self._raw["weight"])

    @property
    def requests_per_minute(self) -> int | None:
        """Requests of all its keys in any 60 seconds."""
        return self._raw.get("requests_per_minute")

    @property
    def key_requests_per_minute(self) -> int | None:
        """Requests of each of its keys in any 60 seconds."""
        return self._raw.get("key_requests_per_minute")

    @property
    def queued_jobs(self) -> int | None:
        """How many of its jobs may wait."""
        return self._raw.get("queued_jobs")

    @property
    def in_flight_jobs(self) -> int | None:
        """How many of its jobs may be there that have not ended."""
        return self._raw.get("in_flight_jobs")

    @property
    def stored_bytes(self) -> int | None:
        """What its files may take together."""
        return self._raw.get("stored_bytes")

    @property
    def disabled(self) -> bool:
        """Whether none of its keys works. What was accepted goes on."""
        return self.disabled_at is not None

    @property
    def disabled_at(self) -> datetime | None:
        """Since when."""
        return self._moment("disabled_at")

    @property
    def created_at(self) -> datetime | None:
        """When it was made."""
        return self._moment("created_at")


class ApiKey(Record):
    """A tenant's key. Its `id` is the middle part of `hr_<id>_<secret>`, and no secret."""

    @property
    def key(self) -> str | None:
        """The whole key (`hr_…`), which clients authenticate with. Only there when it was just made."""
        return self._raw.get("key")

    @property
    def tenant(self) -> str:
        """The name of the tenant it is of."""
        return str(self._raw.get("tenant", ""))

    @property
    def name(self) -> str:
        """What it is for, in the words of whoever made it."""
        return self._raw.get("name") or ""

    @property
    def scopes(self) -> list[str]:
        """What it may do, such as `jobs:write`."""
        return self._raw.get("scopes") or []

    @property
    def live(self) -> bool:
        """Whether it works: neither revoked nor expired, and its tenant is not disabled."""
        return bool(self._raw["live"])

    @property
    def requests_per_minute(self) -> int | None:
        """Its own limit of requests in any 60 seconds. None: its tenant's for each key; 0: none."""
        return self._raw.get("requests_per_minute")

    @property
    def created_at(self) -> datetime | None:
        """When it was made."""
        return self._moment("created_at")

    @property
    def expires_at(self) -> datetime | None:
        """When it stops working by itself; None if never."""
        return self._moment("expires_at")

    @property
    def revoked_at(self) -> datetime | None:
        """When somebody ended it."""
        return self._moment("revoked_at")

    @property
    def last_used_at(self) -> datetime | None:
        """When it was last used, to the minute or so."""
        return self._moment("last_used_at")

    def __repr__(self) -> str:
        return f"ApiKey({self.id!r}, tenant={self.tenant!r})"


class AuditLine(Record):
    """What an operator did, once."""

    @property
    def at(self) -> datetime | None:
        """When."""
        return self._moment("at")

    @property
    def actor(self) -> str:
        """Who: `key:ID`, or `cli:ACCOUNT@MACHINE`."""
        return str(self._raw.get("actor", ""))

    @property
    def action(self) -> str:
        """What, such as `keys.revoke`."""
        return str(self._raw.get("action", ""))

    @property
    def subject(self) -> str:
        """To whom or what: a tenant's name, a key's id, a model, a worker."""
        return str(self._raw.get("subject", ""))

    @property
    def details(self) -> dict[str, Any]:
        """What was given. Never a secret."""
        return self._raw.get("details") or {}

    def __repr__(self) -> str:
        return f"AuditLine({self.id!r}, {self.action!r}, {self.subject!r})"
