"""The client: where everything starts."""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NoReturn, Self, Unpack

from headrace.admin_api import Audit, Keys, Tenants
from headrace.arguments import seconds
from headrace.batch_api import BatchApi
from headrace.batches import Batches
from headrace.catalog import Models, Workers
from headrace.clock import Clock, Deadline
from headrace.config import resolve
from headrace.files import Files
from headrace.job import LONGEST_ROUND_S, Job
from headrace.job_api import JobApi
from headrace.jobs import Jobs
from headrace.retry import RetryPolicy
from headrace.transport import Transport
from headrace.types import JobWebhookEvent, Json, Policy, Priority, Retry, SubmitOptions
from headrace.webhook_api import Webhooks

_LONGEST_WAIT_S = 60


class Client:
    """A connection to one Headrace server. Make one and share it: it is safe among threads and over
    forks, and keeps its connections open.

    `base_url` and `api_key` come from `HEADRACE_URL` and `HEADRACE_API_KEY` if not given, and if
    those are not set either, from the `.headrace/env` that the development stack writes. `timeout`
    is how many seconds one request may take, besides the time it was asked to wait. A request is
    tried up to `max_retries` times more on connection errors, 429, 502, 503 and 504, as patiently
    as the server's `Retry-After` says, and three times as often while it waits for a job; a retried
    submit never makes a second job. `clock` is for tests.

    >>> from headrace import Client
    >>> client = Client()
    >>> client.run("echo", {"text": "hello"})
    {'text': 'hello'}
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 4,
        *,
        clock: Clock | None = None,
    ) -> None:
        if not (isinstance(max_retries, int) and max_retries >= 0):
            raise ValueError(f"max_retries is a whole number, 0 for none, not {max_retries!r}")
        if seconds(timeout, "timeout", above=0) is None:
            raise TypeError(
                "timeout is a number of seconds: a request without an end would hang with its server"
            )
        self._config = resolve(base_url, api_key, os.environ)
        self._clock = clock or Clock()
        transport = Transport(
            self._config,
            timeout=timeout,
            policy=RetryPolicy(max_retries=max_retries),
            clock=self._clock,
        )
        self._transport = transport
        self._job_api = JobApi(transport)
        self.jobs = Jobs(self._job_api)
        self.files = Files(transport)
        self.batches = Batches(BatchApi(transport), self.files)
        self.models = Models(transport)
        self.workers = Workers(transport)
        self.webhooks = Webhooks(transport)
        self.tenants = Tenants(transport)
        self.keys = Keys(transport)
        self.audit = Audit(transport)

    @property
    def base_url(self) -> str:
        """The server's URL, without `/v1`."""
        return self._config.base_url

    def run(
        self,
        model: str,
        input: Json,
        timeout: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Json:
        """Submit, wait, and return the output: in one request, unless the job takes long.

        Raises `JobFailed`, `JobCanceled` or `JobExpired` if there is no output, and `WaitTimeout`
        if the job has not ended after `timeout` seconds (it goes on; the error has it as `job`).
        """
        deadline = Deadline(self._clock, timeout)
        raw = self._job_api.create(
            _body(model, input, **options),
            idempotency_key=options.get("idempotency_key"),
            hold=min(LONGEST_ROUND_S, deadline.left()),
            deadline=deadline,
        )
        return Job(raw, self._job_api)._result(deadline)

    def submit(
        self,
        model: str,
        input: Json,
        *,
        version: str | None = None,
        priority: Priority | None = None,
        webhook: str | None = None,
        webhook_events_filter: Sequence[JobWebhookEvent] | None = None,
        policy: Policy | None = None,
        retry: Retry | None = None,
        use_case: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """Queue a job. Once this returns, the job is stored and is not lost.

        `model` is `name` or `name@version`; without a version it is the current one, fixed now.
        With `wait` the server holds the answer up to so many seconds (60 at most): look at
        `job.done`. An `idempotency_key` of your own makes the call safe to repeat even from another
        process: same key and same job, same answer; same key and another job, `ValidationError`.

        Raises `ValidationError` that names each wrong field, `NotFoundError` or another `APIError`,
        `APIConnectionError`; and `TypeError` or `ValueError` if `input` is not JSON.

        >>> job = client.submit("echo", {"text": "hi"}, metadata={"team": "search"}, wait=10)
        >>> job.done, job.metadata
        (True, {'team': 'search'})
        """
        wait = seconds(wait, "wait")
        if wait is not None and not 0 <= wait <= _LONGEST_WAIT_S:
            raise ValueError(f"wait is 0 to {_LONGEST_WAIT_S} seconds; Job.wait() waits longer")
        body = _body(
            model,
            input,
            version=version,
            priority=priority,
            webhook=webhook,
            webhook_events_filter=webhook_events_filter,
            policy=policy,
            retry=retry,
            use_case=use_case,
            metadata=metadata,
        )
        raw = self._job_api.create(body, idempotency_key=idempotency_key, hold=wait or 0.0)
        return Job(raw, self._job_api)

    def close(self) -> None:
        """Close every connection. The client may be used again after."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client can't be pickled: make one in each process, or share one over a fork")

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"


def _body(model: str, input: Json, **options: Unpack[SubmitOptions]) -> dict[str, Json]:
    if unknown := options.keys() - SubmitOptions.__annotations__.keys():
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    body = {"model": model, "input": input}
    return body | {
        name: value for name, value in options.items() if value is not None and name != "idempotency_key"
    }
