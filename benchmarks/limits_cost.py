"""What limits cost a request: `python -m benchmarks.limits_cost DATABASE_URL REDIS_URL`.

CPU time of this process for each call, without what Redis and Postgres spend.
"""

import sys
import time
from collections.abc import Callable

from pydantic import SecretStr

from app.db.engine import make_engine
from app.domain.limits import TenantLimits
from app.intake.authenticate import Principal
from app.intake.quotas import Quotas
from app.intake.rates import RateLimiter
from app.settings import Limits

CALLS = 3000


def main(database_url: str, redis_url: str) -> None:
    """Print microseconds per request for each kind of limit."""
    rates = RateLimiter(SecretStr(redis_url), Limits())
    quotas = Quotas(make_engine(SecretStr(database_url), lookups_only=True), Limits(), time.monotonic)

    def who(**limits: int) -> Principal:
        return Principal("benchmark", 1, "benchmark", frozenset(), TenantLimits(**limits))

    free, key = who(queued_jobs=0), who(key_requests_per_minute=1_000_000)
    both = who(key_requests_per_minute=1_000_000, requests_per_minute=1_000_000)
    cases: dict[str, Callable[[], None]] = {
        "no limit of requests": lambda: rates.admit(free, lambda _: None),
        "one limit of requests": lambda: rates.admit(key, lambda _: None),
        "two limits of requests": lambda: rates.admit(both, lambda _: None),
        "no limit of jobs": lambda: quotas.admit(free, 1),
        "a million queued jobs": lambda: quotas.admit(key, 1),
        "5,000 queued jobs, never near": lambda: quotas.admit(who(queued_jobs=5000), 1),
    }
    for name, call in cases.items():
        call()
        began = time.process_time()
        for _ in range(CALLS):
            call()
        print(f"{name}: {(time.process_time() - began) / CALLS * 1e6:.1f} us")


if __name__ == "__main__":
    main(*sys.argv[1:])
