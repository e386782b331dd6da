"""`client.tenants`, `client.keys` and `client.audit`: who shares the system. For operators, over all tenants.

All of it needs a key with the scope `admin`, and raises `PermissionDeniedError` without.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import quote

from headrace import pages
from headrace.admin_records import ApiKey, AuditLine, Tenant
from headrace.arguments import given, listed
from headrace.clock import rfc3339
from headrace.transport import Transport
from headrace.types import Scope, TenantLimits

_TENANTS, _KEYS, _AUDIT = "/v1/tenants", "/v1/keys", "/v1/audit"


class Tenants:
    """Who shares the system: by which weights, and within which limits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, tenant: str, *, weight: int | None = None, **limits: Unpack[TenantLimits]) -> Tenant:
        """Make a tenant of this name, which is for good. It needs a key next: `client.keys.create`.

        A limit that is not given is the server's default; 0 is no limit.

        Raises `ConflictError` with the code `tenant_exists` if there is one of this name. Safe to repeat, so
        it is retried; but if an answer was lost, the one that exists may be what this very call made. It is
        not taken for that, because a name may have been somebody else's before: the line
        `client.audit.list(action="tenants.create")` has the key that made it.

        >>> tenant = client.tenants.create("acme", weight=3, queued_jobs=5000)
        >>> tenant.id, tenant.weight, tenant.queued_jobs, tenant.stored_bytes
        ('acme', 3, 5000, None)
        """
        body = given(id=tenant, weight=weight) | _checked(limits)
        return Tenant(self._transport.request("POST", _TENANTS, body=body).data)

    def list(self, *, after: str | None = None, limit: int | None = None) -> Iterator[Tenant]:
        """Tenants, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the name to go on after.
        """
        return (Tenant(raw) for raw in pages.items(self._transport, _TENANTS, given(after=after), limit))

    def get(self, tenant: str) -> Tenant:
        """The tenant of this name. Raises `NotFoundError`."""
        return Tenant(self._transport.request("GET", _tenant(tenant)).data)

    def update(self, tenant: str, *, weight: int | None = None, **limits: Unpack[TenantLimits]) -> Tenant:
        """Change what is given, and nothing else. A limit of None is the server's default again.

        Processes of the server see it within seconds. Raises `NotFoundError`.

        >>> client.tenants.update("default", queued_jobs=None, stored_bytes=0).stored_bytes
        0
        """
        return self._change(tenant, given(weight=weight) | _checked(limits))

    def disable(self, tenant: str) -> Tenant:
        """Let none of its keys work, within seconds. What was accepted goes on. Safe to repeat.

        Raises `ConflictError` (`own_tenant`) if this client's own key is that tenant's."""
        return self._change(tenant, {"disabled": True})

    def enable(self, tenant: str) -> Tenant:
        """Let its keys work again: all but those that were revoked or have expired. Safe to repeat."""
        return self._change(tenant, {"disabled": False})

    def _change(self, tenant: str, body: Mapping[str, Any]) -> Tenant:
        return Tenant(self._transport.request("PATCH", _tenant(tenant), body=body).data)


class Keys:
    """What clients authenticate with. A key's secret is told once, to whoever makes it.

    Making one is never sent twice by this client, unless the first was surely refused (429): the server keeps
    only a hash, so no `Idempotency-Key` could have it tell the same secret again, and a second request would
    make a second key. If the connection breaks, the answer is late, or it is a 5xx, the error is raised, and
    there may be a live key whose secret nobody knows. `list` shows it, and `client.audit` who made it:
    `revoke` it, and make another.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        tenant: str,
        *,
        name: str | None = None,
        scopes: Sequence[Scope] | None = None,
        expires_at: datetime | str | None = None,
        requests_per_minute: int | None = None,
    ) -> ApiKey:
        """Make a key of this tenant. Its `key` is told this once: keep it.

        It may do all but `admin` unless `scopes` says otherwise, and works for good unless there is an
        `expires_at`. `requests_per_minute` is its tenant's for each key if not given; 0 is no limit.

        Raises `NotFoundError` if there is no such tenant. Not retried after a lost answer: then there may be
        a key that nobody has, to be found in `list` (give each a `name`), revoked, and made again.

        >>> made = client.keys.create("default", name="backend", scopes=["jobs:read", "jobs:write"])
        >>> made.key.startswith("hr_"), made.tenant, made.live
        (True, 'default', True)
        """
        body = given(
            name=name,
            scopes=listed(scopes),
            expires_at=rfc3339(expires_at),
            requests_per_minute=requests_per_minute,
        )
        return ApiKey(_post_once(self._transport, _tenant(tenant, "/keys"), body))

    def list(self, tenant: str, *, after: str | None = None, limit: int | None = None) -> Iterator[ApiKey]:
        """The keys of this tenant, newest first, fetched page by page while you iterate: without their
        secrets, and with those that are revoked or have expired.

        `limit` is the most you get in all; `after` is the id to go on after.
        """
        found = pages.items(self._transport, _tenant(tenant, "/keys"), given(after=after), limit)
        return (ApiKey(raw) for raw in found)

    def rotate(
        self,
        key_id: str,
        *,
        grace_period_seconds: int | None = None,
        expires_at: datetime | str | None = None,
    ) -> ApiKey:
        """A second key that may do what this one may. Its `key` is told this once.

        It lives as long as the first was made for, or for good if that was; unless `expires_at` is given.
        The first ends after a grace period (a day unless given). Raises `NotFoundError` if it is not live
        any more, and `ConflictError` (`key_rotated`) if it was rotated before and no `expires_at` is given.

        Not retried after a lost answer. Then rotate the successor, which is the newest in `list` and whose
        secret nobody has, with a grace period of 0. Never give 0 for the key that this client uses: if the
        answer is lost, nothing that works is left.
        """
        body = given(grace_period_seconds=grace_period_seconds, expires_at=rfc3339(expires_at))
        return ApiKey(_post_once(self._transport, _key(key_id, "/rotate"), body))

    def revoke(self, key_id: str) -> ApiKey:
        """End it, for good. Every process of the server refuses it within seconds. Safe to repeat, so it is
        retried. Raises `NotFoundError`."""
        return ApiKey(self._transport.request("POST", _key(key_id, "/revoke")).data)


class Audit:
    """Who did what to tenants, keys, models and workers, and when."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, *, action: str | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[AuditLine]:
        """Lines of the log, newest first, fetched page by page while you iterate.

        `action` is how the actions begin: `keys`, or `keys.revoke`. `limit` is the most you get in all;
        `after` is the id to go on after.

        >>> made = client.keys.create("default")
        >>> [(line.action, line.subject == made.id) for line in client.audit.list(action="keys")]
        [('keys.create', True)]
        """
        params = given(action=action, after=after)
        return (AuditLine(raw) for raw in pages.items(self._transport, _AUDIT, params, limit))


def checked_tenant(name: str) -> str:
    """The name, if it is none that would become another path. Raises `ValueError`."""
    # A server takes %2F for a slash, too.
    if "/" in name or not name.strip("."):
        raise ValueError(f"{name!r} is not a tenant's name")
    return name


def checked_key_id(key_id: str) -> str:
    """The id, if it may be one. Raises `ValueError`, which does not quote it: whoever gives a whole key
    must not find it in a log."""
    if not (key_id.isascii() and key_id.isalnum()):
        raise ValueError("not a key's id: that is the middle part of hr_<id>_<secret>, alone")
    return key_id


def _tenant(name: str, action: str = "") -> str:
    return f"{_TENANTS}/{quote(checked_tenant(name), safe='')}{action}"


def _key(key_id: str, action: str) -> str:
    return f"{_KEYS}/{checked_key_id(key_id)}{action}"


def _post_once(transport: Transport, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = transport.request("POST", path, body=body, repeatable=False).data
    return made


def _checked(limits: TenantLimits) -> dict[str, Any]:
    if unknown := limits.keys() - TenantLimits.__annotations__.keys():
        raise TypeError(f"no such limit: {', '.join(sorted(unknown))}")
    return dict(limits)
