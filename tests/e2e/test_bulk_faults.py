"""A file in bulk on a bad day: every process is killed in turn, and every line comes out once, in order."""

import io
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import requests
from headrace import Client

from tests.support import stacks
from tests.support.killer import FLUSH, Killer
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

LINES = 8_000
ENDED = ("completed", "failed", "expired", "cancelled")
VICTIMS = (
    "worker-bulk/child-1",
    "worker-bulk/child-2",
    "worker-bulk",
    "clerk/child-1",
    "clerk",
    "scheduler",
    "api",
    "valkey",
    "postgres",
    FLUSH,
)
LOOK_S = 0.05


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that may be broken, whose leases end soon."""
    quick = {"HEADRACE_WORKER_LEASE_TTL_S": "6", "HEADRACE_WORKER_HEARTBEAT_S": "1"}
    state_dir = tmp_path_factory.mktemp("bulk") / "state"
    with stacks.stack(state_dir, environ=quick, workers=["bulk:cpu.batch,cpu.interactive:2"]) as running:
        yield running


class Watcher:
    """Looks at a batch every 50 ms, and keeps what it saw. An API that is being killed is not asked twice."""

    def __init__(self, stack: RunningStack, batch_id: str) -> None:
        self._stack = stack
        self._path = f"/v1/batches/{batch_id}"
        self.seen: list[dict[str, Any]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def ended_jobs(self) -> int:
        """How many jobs had ended when it last looked."""
        return _ended(self.seen[-1]) if self.seen else 0

    def has_ended(self) -> bool:
        """Whether the batch had."""
        return bool(self.seen) and self.seen[-1]["status"] in ENDED

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                answer = self._stack.request("GET", self._path, timeout=5)
            except requests.RequestException:
                continue
            if answer.ok:
                self.seen.append(answer.json())


def test_every_process_is_killed_in_turn_and_every_line_comes_out_once_in_order(
    fragile: RunningStack,
) -> None:
    """One line in a hundred fails by itself, so that there are two files."""
    lines = [_line(number) for number in range(LINES)]
    with Client(fragile.url, fragile.api_key, max_retries=30) as client:
        file = client.files.create(io.BytesIO(b"".join(lines)), filename="bad-day.jsonl")
        batch = client.batches.create(file.id)
        with Watcher(fragile, batch.id) as watcher:
            killer = Killer(
                fragile, VICTIMS, times=1, progress=watcher.ended_jobs, total=LINES * 4 // 5, seed=4
            )
            with killer:
                wait_until(lambda: not killer.left, 120, "everything to be killed once")
                wait_until(watcher.has_ended, 120, "the batch to end by itself")
        batch.refresh()
        assert (batch.status, batch.total) == ("completed", LINES)
        output, errors = (
            _numbers(client, file_id) for file_id in (batch.output_file_id, batch.error_file_id)
        )
    assert errors == list(range(0, LINES, 100))
    assert output == [number for number in range(LINES) if number % 100]
    _check_counts(watcher.seen)
    doctor = fragile.headracectl("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def _line(number: int) -> bytes:
    asked: dict[str, Any] = {"model": "echo", "input": {"n": number, "sleep_ms": 2}}
    if number % 100 == 0:
        asked |= {"input": {"fail": True}, "retry": {"max_attempts": 1}}
    line = {"custom_id": str(number), "method": "POST", "url": "/v1/jobs", "body": asked}
    return json.dumps(line).encode() + b"\n"


def _numbers(client: Client, file_id: str | None) -> list[int]:
    assert file_id
    content = b"".join(client.files.content(file_id))
    return [int(json.loads(line)["custom_id"]) for line in content.splitlines()]


def _check_counts(seen: list[dict[str, Any]]) -> None:
    validated = [one for one in seen if one["request_counts"]["total"]]
    assert len(validated) > 20, "the batch was hardly looked at"
    for one in validated:
        requests_, counts = one["request_counts"], one["counts"]
        assert sum(counts.values()) == requests_["total"] == LINES
        assert requests_["completed"] + requests_["failed"] <= LINES
    for before, after in pairwise(validated):
        for name in ("completed", "failed"):
            assert before["request_counts"][name] <= after["request_counts"][name]
        assert _ended(before) <= _ended(after)


def _ended(batch: dict[str, Any]) -> int:
    counts = batch["counts"]
    return sum(counts[name] for name in ("succeeded", "errored", "canceled", "expired"))
