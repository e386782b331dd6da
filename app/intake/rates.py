"""Requests in a moving window: of a key, and of its tenant. Counted in Redis, so exactly over all processes.

The windows are those of the library `limits`: one script in Redis adds a request, or refuses it. A refused
request does not count; one that its tenant's limit refuses does count for its key. Without Redis each process
counts on its own, so that N processes let through N times as much, until Redis is back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import SecretStr

from app.broker.redis import BestEffort, make_client
from app.domain.limits import effective
from app.errors import TooMany
from app.intake.authenticate import Principal
from app.observability import metrics
from app.settings import Limits

WINDOW_S = 60
_NAMESPACE = "headrace:requests"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """One limit as it holds for one request. `name` is what headers and problems call it."""

    name: str
    item: RateLimitItem
    whose: str


@dataclass(frozen=True, slots=True)
class State:
    """What is left of a policy, and in how many seconds there is more."""

    policy: Policy
    left: int
    more_in_s: int


class RateLimiter:
    """Lets requests through or not. One per process; safe to share among threads."""

    def __init__(self, url: SecretStr, defaults: Limits, wall: Callable[[], float] = time.time) -> None:
        client = make_client(url)
        self._redis = BestEffort(client)
        self._shared = MovingWindowRateLimiter(
            RedisStorage(url.get_secret_value(), connection_pool=client.connection_pool, key_prefix="")
        )
        self._own: MovingWindowRateLimiter | None = None
        self._own_at = 0.0
        self._defaults = defaults
        self._wall = wall

    def admit(self, principal: Principal, show: Callable[[dict[str, str]], None]) -> None:
        """Count a request, and give `show` the headers of its answer. No limit, no cost.

        Raises `TooMany` after `show` was given the headers, which a refusal has as well.
        """
        policies = self._policies(principal)
        if not policies:
            return
        outcome = self._redis.attempt(lambda _: self._hit(self._shared, policies))
        if outcome is None:
            outcome = self._hit(self._alone(), policies)
        elif self._own is not None:
            self._own = None
            _log.info("limits.restored")
        states, violated = outcome
        show(headers(states))
        if violated is not None:
            metrics.LIMITS_REFUSED.labels(violated.policy.name).inc()
            raise _too_many(violated)

    def _policies(self, principal: Principal) -> list[Policy]:
        limits, defaults = principal.limits, self._defaults
        found = []
        key = effective(limits.key_requests_per_minute, defaults.key_requests_per_minute)
        if key:
            found.append(Policy("key", RateLimitItemPerMinute(key, 1, _NAMESPACE), principal.key_id))
        tenant = effective(limits.requests_per_minute, defaults.requests_per_minute)
        if tenant:
            found.append(
                Policy("tenant", RateLimitItemPerMinute(tenant, 1, _NAMESPACE), str(principal.tenant_id))
            )
        return found

    def _hit(
        self, limiter: MovingWindowRateLimiter, policies: list[Policy]
    ) -> tuple[list[State], State | None]:
        states = []
        for policy in policies:
            let_through = limiter.hit(policy.item, policy.name, policy.whose)
            reset, left = limiter.get_window_stats(policy.item, policy.name, policy.whose)
            # A clock that was set back since would have it longer than a window is.
            more_in_s = min(WINDOW_S, max(1, round(reset - self._wall() + 0.5)))
            state = State(policy, left if let_through else 0, more_in_s)
            states.append(state)
            if not let_through:
                return states, state
        return states, None

    def _alone(self) -> MovingWindowRateLimiter:
        now, before = self._wall(), self._own_at
        self._own_at = now
        if self._own is not None and now < before:
            # The clock was set back, and what it counted is in the future: it would count for that long.
            self._own = MovingWindowRateLimiter(MemoryStorage())
        if self._own is None:
            self._own = MovingWindowRateLimiter(MemoryStorage())
            _log.warning("limits.alone", reason="Redis is away: each process counts requests on its own")
        return self._own


def headers(states: list[State]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)."""
    return {
        "RateLimit-Policy": ", ".join(
            f'"{state.policy.name}";q={state.policy.item.amount};w={WINDOW_S}' for state in states
        ),
        "RateLimit": ", ".join(
            f'"{state.policy.name}";r={state.left};t={state.more_in_s}' for state in states
        ),
    }


def _too_many(state: State) -> TooMany:
    whose = "this key" if state.policy.name == "key" else "your tenant"
    return TooMany(
        "too_many_requests",
        f"{whose} may make {state.policy.item.amount} requests in {WINDOW_S} seconds",
        state.more_in_s,
        violated=[state.policy.name],
    )
