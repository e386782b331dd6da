"""The webhook part of the contract in small. What it sends is signed by the reference implementation."""

import base64
import json
import os
import time
from datetime import UTC, datetime
from uuid import uuid4

import urllib3
from client_testkit import Reply, page, problem
from standardwebhooks import Webhook

NOON = "2026-01-31T12:00:00Z"


def new_secret():
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def body(kind="job.completed", **data):
    """A webhook's body as the contract shows it."""
    return json.dumps({"type": kind, "timestamp": NOON, "data": data}).encode()


def signed(secrets, payload, webhook_id="dlv_1", at=None):
    """The headers for it, a signature for each secret, all by the reference implementation."""
    at = int(time.time()) if at is None else at
    moment = datetime.fromtimestamp(at, UTC)
    signatures = [Webhook(one).sign(webhook_id, moment, payload.decode()) for one in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }


def endpoint(**changes):
    """An endpoint as the contract shows it."""
    return {
        "id": f"whk_{uuid4().hex}",
        "object": "webhook_endpoint",
        "url": "https://example.com/hook",
        "events": ["job.completed"],
        "description": "",
        "status": "enabled",
        "disabled_reason": None,
        "failing_since": None,
        "previous_secret_expires_at": None,
        "created_at": NOON,
        "updated_at": NOON,
    } | changes


def delivery(status="pending", *attempts, **changes):
    """A delivery as the contract shows it."""
    return {
        "id": f"dlv_{uuid4().hex}",
        "object": "webhook_delivery",
        "event": "endpoint.test",
        "endpoint_id": None,
        "url": "https://example.com/hook",
        "job_id": None,
        "status": status,
        "next_attempt_at": NOON if status == "pending" else None,
        "attempts": list(attempts),
        "error": None,
        "created_at": NOON,
        "completed_at": None if status in ("pending", "sending") else NOON,
    } | changes


def attempt(status_code=200, error=None, **changes):
    return {
        "attempt": 1,
        "started_at": NOON,
        "status_code": status_code,
        "latency_s": 0.012,
        "error": error,
    } | changes


class FakeWebhooks:
    """Endpoints that are really called, at once, when something is published."""

    def __init__(self):
        self.calls_loopback = True
        self.endpoints = {}
        self.deliveries = {}
        self._secrets = {}
        self._default = new_secret()
        self._pool = urllib3.PoolManager(retries=False)

    def __call__(self, request):
        match [request.method, *request.path.strip("/").split("/")[2:]]:
            case ["POST"]:
                return self._create(request.json)
            case ["GET"]:
                return Reply(body=page(list(self.endpoints.values())[::-1]))
            case ["GET", "default", "secret"] | ["POST", "default", "rotate-secret"]:
                shown = {"object": "webhook_secret", "secret": self._default}
                return Reply(body=shown | {"previous_secret_expires_at": None})
            case ["GET", "deliveries"]:
                return self._list(request.query)
            case ["GET", "deliveries", found] if found in self.deliveries:
                return Reply(body=self.deliveries[found])
            case ["POST", "deliveries", found, "redeliver"] if found in self.deliveries:
                return Reply(202, self._send(self.deliveries[found]))
            case [method, found, *action] if found in self.endpoints:
                return self._act(method, found, action, request)
            case _:
                return problem(404, "endpoint_not_found", "there is no such thing")

    def publish(self, endpoint_id, kind, **data):
        """Deliver an event. The answer's status code is in the last attempt."""
        return self._send(self._made(endpoint_id, kind, data))

    def _create(self, wanted):
        if not self.calls_loopback and "127.0.0.1" in wanted["url"]:
            wrong = {"pointer": "/url", "code": "blocked_url", "message": "is not a public address"}
            return problem(422, "invalid_request", "1 field is wrong", errors=[wrong])
        made = endpoint(**wanted)
        self.endpoints[made["id"]] = made
        return Reply(201, made | {"secret": self._rotate(made["id"])})

    def _act(self, method, endpoint_id, action, request):
        found = self.endpoints[endpoint_id]
        if method == "DELETE":
            del self.endpoints[endpoint_id]
            return Reply(body={"id": endpoint_id, "object": "webhook_endpoint", "deleted": True})
        if method == "PATCH":
            found |= request.json
        if action == ["rotate-secret"]:
            return Reply(body=found | {"secret": self._rotate(endpoint_id)})
        if action == ["recover"]:
            return Reply(202, {"object": "recovery", "endpoint_id": endpoint_id, "count": 0} | request.json)
        if action == ["test"]:
            return Reply(202, self.publish(endpoint_id, "endpoint.test"))
        return Reply(body=found)

    def _list(self, query):
        found = [
            one | {"attempts": None}
            for one in reversed(self.deliveries.values())
            if query.get("status") in (None, one["status"])
        ]
        return Reply(body=page(found[: int(query["limit"])]))

    def _rotate(self, endpoint_id):
        self._secrets[endpoint_id] = new_secret()
        return self._secrets[endpoint_id]

    def _made(self, endpoint_id, kind, data):
        url = self.endpoints[endpoint_id]["url"]
        made = delivery(event=kind, endpoint_id=endpoint_id, url=url, job_id=data.get("id"))
        made["body"] = body(kind, **data).decode()
        self.deliveries[made["id"]] = made
        return made

    def _send(self, made):
        payload = made["body"].encode()
        headers = signed([self._secrets[made["endpoint_id"]]], payload, made["id"])
        headers |= {"Content-Type": "application/json", "User-Agent": "Headrace-Webhooks/0"}
        answer = self._pool.request("POST", made["url"], body=payload, headers=headers, redirect=False)
        error = None if answer.status < 300 else "http_status"
        made["attempts"] = [attempt(answer.status, error, retry_after=answer.headers.get("Retry-After"))]
        made["status"] = "delivered" if error is None else "pending"
        return made
