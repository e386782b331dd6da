"""Passing a received webhook on to the user's own application, as it came."""

import time
from dataclasses import dataclass

import urllib3

from headrace.cli.receiver import Headers
from headrace.transport import root_cause

# Together below the 15 s that the sender waits, so that it still hears what became of it.
_CONNECT_S, _TOTAL_S = 2.0, 12.0
_PASSED_ON = ("content-type", "user-agent")
_UNREACHABLE, _TOO_SLOW = 502, 504


@dataclass(frozen=True)
class Forwarded:
    """What the application made of it. `status` is for the sender, whether it answered or not."""

    status: int
    latency_s: float
    error: str | None = None
    retry_after: str | None = None


class Forwarder:
    """Sends the exact bytes to one URL: no proxy, no redirects, no retries, a bounded time."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Not requests: its sessions are not for many threads, and take proxies from the environment.
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, total=_TOTAL_S), retries=False
        )

    def send(self, headers: Headers, body: bytes) -> Forwarded:
        """Never raises: what fails is part of the answer."""
        began = time.monotonic()
        try:
            response = self._pool.request(
                "POST",
                self.url,
                body=body,
                headers={name: value for name, value in headers if _is_passed_on(name)},
                redirect=False,
                # Only its status counts. A body that never ends is not waited for.
                preload_content=False,
            )
        except urllib3.exceptions.NewConnectionError as error:  # which urllib3 counts among timeouts
            return Forwarded(_UNREACHABLE, time.monotonic() - began, root_cause(error))
        except urllib3.exceptions.TimeoutError:
            return Forwarded(_TOO_SLOW, time.monotonic() - began, "no answer in time")
        except urllib3.exceptions.HTTPError as error:
            return Forwarded(_UNREACHABLE, time.monotonic() - began, root_cause(error))
        latency = time.monotonic() - began
        response.close()
        return Forwarded(response.status, latency, retry_after=response.headers.get("Retry-After"))


def _is_passed_on(name: str) -> bool:
    return name.lower() in _PASSED_ON or name.lower().startswith("webhook-")
