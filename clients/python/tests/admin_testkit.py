"""The operators' part of the contract in small: tenants, their keys, and the line of each change."""

from client_testkit import Reply, page, problem

NOON = "2026-01-31T12:00:00Z"
_LIMITS = ("requests_per_minute", "key_requests_per_minute", "queued_jobs", "in_flight_jobs", "stored_bytes")


def tenant(name="acme", **changes):
    """A tenant as the contract shows it."""
    unlimited = dict.fromkeys(_LIMITS)
    shown = {
        "id": name,
        "object": "tenant",
        "weight": 1,
        **unlimited,
        "disabled_at": None,
        "created_at": NOON,
    }
    return shown | changes


def api_key(key_id="Abc123", **changes):
    """A key as the contract shows it."""
    return {
        "id": key_id,
        "object": "api_key",
        "tenant": "acme",
        "name": "",
        "scopes": ["jobs:read", "jobs:write"],
        "live": True,
        "requests_per_minute": None,
        "created_at": NOON,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    } | changes


def line(number=1, **changes):
    """A line of the audit log as the contract shows it."""
    return {
        "id": str(number),
        "object": "audit_line",
        "at": NOON,
        "actor": "key:test",
        "action": "keys.create",
        "subject": "Abc123",
        "details": {"tenant": "acme"},
    } | changes


class FakeAdmin:
    """Tenants, of which there is one, and keys, of which there are none."""

    def __init__(self):
        self.tenants = {"default": tenant("default")}
        self.keys = {}
        self.lines = []

    def __call__(self, request):
        match [request.method, *request.path.strip("/").split("/")[1:]]:
            case ["POST", "tenants"] if request.json["id"] in self.tenants:
                return problem(409, "tenant_exists", "there is a tenant of this name already")
            case ["POST", "tenants"]:
                made = self.tenants[request.json["id"]] = tenant() | request.json
                return self._done("tenants.create", made, 201)
            case ["GET", "tenants"]:
                return self._page(self.tenants.values(), request)
            case [method, "tenants", name, *rest] if name in self.tenants:
                return self._of_tenant(method, self.tenants[name], rest, request)
            case ["POST", "keys", key_id, action] if key_id in self.keys:
                return self._of_key(self.keys[key_id], action, request)
            case ["GET", "audit"]:
                asked = request.query.get("action", "")
                return self._page([one for one in self.lines if one["action"].startswith(asked)], request)
            case [_, noun, *_]:
                return problem(404, f"{noun.removesuffix('s')}_not_found", "there is no such thing")

    def _of_tenant(self, method, found, rest, request):
        if method == "POST":
            return self._new_key({"tenant": found["id"]} | request.json)
        if method == "PATCH":
            asked = request.json
            if (disabled := asked.pop("disabled", None)) is not None:
                asked["disabled_at"] = NOON if disabled else None
            found |= asked
            return self._done("tenants.set", found)
        if rest:
            return self._page([one for one in self.keys.values() if one["tenant"] == found["id"]], request)
        return Reply(body=found)

    def _of_key(self, found, action, request):
        if action == "rotate":
            rotated = [one["subject"] for one in self.lines if one["action"] == "keys.rotate"]
            if found["id"] in rotated and "expires_at" not in request.json:
                return problem(409, "key_rotated", f"the key {found['id']} was rotated before")
            found["expires_at"] = NOON
            alike = {name: found[name] for name in ("tenant", "name", "scopes")}
            return self._new_key(alike, of=found["id"])
        found |= {"live": False, "revoked_at": NOON}
        return self._done("keys.revoke", found)

    def _new_key(self, values, of=None):
        made = api_key(f"Key{len(self.keys)}", **values)
        self.keys[made["id"]] = made
        told = made | {"key": f"hr_{made['id']}_S3cret"}
        if of is None:
            return self._done("keys.create", told, 201)
        return self._done("keys.rotate", told, 201, subject=of, details={"new": made["id"]})

    def _done(self, action, shown, status=200, **more):
        told = {"action": action, "subject": shown["id"], "details": {}} | more
        self.lines.append(line(len(self.lines) + 1, **told))
        return Reply(status, shown)

    def _page(self, found, request):
        return Reply(body=page(list(found)[::-1][: int(request.query["limit"])]))
