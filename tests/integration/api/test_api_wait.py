"""`Prefer: wait=N`: the answer is held until the job ends, with Redis and without."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from app.broker import wakeups as wakeups_module
from app.broker.channels import WAKE_CHANNEL, encode_ids
from app.broker.wakeups import Wakeups
from app.domain.ids import new_uuid
from tests.integration.api.client import Api, HandWorker, uuid_of
from tests.integration.api.conftest import open_api
from tests.integration.api.door import door_to
from tests.support.waiting import wait_until

NOBODY = "redis://127.0.0.1:1/0"


def parts_of(api: Api) -> Any:
    return api.app.extensions["headrace"]


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself: what wakes is the wake-up alone."""
    monkeypatch.setattr(wakeups_module, "HEARING_POLL_S", 600.0)


def held(api: Api, pool: ThreadPoolExecutor, method: str, path: str, **options: Any) -> Future[Any]:
    """A request that is being held now."""
    before = parts_of(api).wakeups.waiting
    # Each thread needs a client of its own.
    one = Api(api.app, api.queue, api.settings, api.key)
    future = pool.submit(one.request, method, path, **options)
    wait_until(lambda: parts_of(api).wakeups.waiting > before, 10, "the request to be held")
    return future


@pytest.mark.usefixtures("patient")
def test_a_held_get_is_woken_by_the_settle(
    api: Api, worker: HandWorker, pool: ThreadPoolExecutor, redis_url: str
) -> None:
    job = api.submit({"text": "hi"})
    future = held(api, pool, "GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
    wait_until(lambda: parts_of(api).wakeups.hearing, 10, "the listener")
    worker.work()
    with redis.Redis.from_url(redis_url) as client:
        # Applications of earlier tests may listen still.
        assert client.publish(WAKE_CHANNEL, encode_ids([new_uuid(), uuid_of(job), new_uuid()])) >= 1
    answer = future.result(10)
    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")
    assert answer.json["output"] == {"text": "hi"}
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert "Retry-After" not in answer.headers


@pytest.mark.usefixtures("patient")
def test_a_held_post_is_200_when_the_job_ended_in_time(
    api: Api, worker: HandWorker, pool: ThreadPoolExecutor, redis_url: str
) -> None:
    body = {"model": "echo", "input": {"text": "hi"}}
    future = held(api, pool, "POST", "/v1/jobs", json=body, headers={"Prefer": "respond-async, wait=60"})
    wait_until(lambda: parts_of(api).wakeups.hearing, 10, "the listener")
    (job_id,) = worker.work()
    with redis.Redis.from_url(redis_url) as client:
        client.publish(WAKE_CHANNEL, encode_ids([job_id]))
    answer = future.result(10)
    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.headers["Location"] == answer.json["urls"]["get"]


@pytest.mark.usefixtures("patient")
def test_a_cancel_wakes_who_waits(api: Api, pool: ThreadPoolExecutor) -> None:
    job = api.submit()
    future = held(api, pool, "GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert future.result(10).json["status"] == "canceled"


def test_a_wait_that_is_over_answers_with_what_is(api: Api) -> None:
    began = time.monotonic()
    post = api.post("/v1/jobs", json={"model": "echo", "input": {}}, headers={"Prefer": "wait=1"})
    assert 1.0 <= time.monotonic() - began < 5.0
    assert (post.status_code, post.json["status"]) == (202, "queued")
    assert (post.headers["Preference-Applied"], post.headers["Retry-After"]) == ("wait=1", "1")
    get = api.get(f"/v1/jobs/{post.json['id']}", headers={"Prefer": "wait=0"})
    assert (get.status_code, get.headers["Preference-Applied"]) == (200, "wait=0")
    assert get.headers["Retry-After"] == "1"


def test_a_job_that_ended_is_not_waited_for(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    worker.work()
    began = time.monotonic()
    answer = api.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
    assert answer.json["status"] == "succeeded"
    assert time.monotonic() - began < 5


def test_without_redis_waiting_works_by_looking(database_url: str, pool: ThreadPoolExecutor) -> None:
    with open_api(database_url, NOBODY) as api:
        worker = HandWorker.start(api.queue)
        job = api.submit()
        future = held(api, pool, "GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
        worker.work()
        began = time.monotonic()
        assert future.result(10).json["status"] == "succeeded"
        assert time.monotonic() - began < 3


@pytest.mark.usefixtures("patient")
def test_the_listener_comes_back_after_redis_did(redis_url: str) -> None:
    with door_to(redis_url) as (door, url):
        wakeups = Wakeups(SecretStr(url))
        job_id = new_uuid()
        with wakeups.watch(job_id) as waiter:
            wait_until(lambda: wakeups.hearing, 10, "the listener")
            assert waiter.wait(0) or True
            door.shut()
            wait_until(lambda: not wakeups.hearing, 10, "the listener to notice")
            assert waiter.wait(60) in (True, False)
            door.open()
            wait_until(lambda: wakeups.hearing, 20, "the listener to come back")
            while waiter.wait(0):
                pass
            with redis.Redis.from_url(redis_url) as client:
                client.publish(WAKE_CHANNEL, encode_ids([job_id]))
            assert waiter.wait(10)
        wakeups.close()


def test_a_publisher_without_redis_wakes_its_own_process(redis_url: str) -> None:
    wakeups = Wakeups(SecretStr(NOBODY))
    job_id = new_uuid()
    with wakeups.watch(job_id) as waiter:
        wakeups.announce([job_id])
        assert waiter.wait(0)
        assert not waiter.wait(0)
    wakeups.close()


def test_nonsense_on_the_channel_harms_nobody(redis_url: str) -> None:
    wakeups = Wakeups(SecretStr(redis_url))
    job_id = new_uuid()
    with wakeups.watch(job_id) as waiter, redis.Redis.from_url(redis_url) as client:
        wait_until(lambda: wakeups.hearing, 10, "the listener")
        for nonsense in (b"", b"\xff" * 50, b"x" * 32, b"," * 1000, b"z" * 100_000):
            client.publish(WAKE_CHANNEL, nonsense)
        while waiter.wait(0):
            pass
        client.publish(WAKE_CHANNEL, b"junk," + encode_ids([job_id]).encode())
        wait_until(lambda: waiter.wait(1), 10, "the real one")
        assert wakeups.hearing
    wakeups.close()


def test_beyond_its_limit_a_process_answers_at_once(api: Api) -> None:
    job = api.submit()
    waiters = [parts_of(api).wakeups.watch(new_uuid()) for _ in range(api.settings.api.max_waiters)]
    for waiter in waiters:
        waiter.__enter__()
    began = time.monotonic()
    answer = api.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (200, "1")
    assert "Preference-Applied" not in answer.headers
    refused = api.get(f"/v1/jobs/{job['id']}/events")
    assert (refused.status_code, refused.json["code"]) == (503, "too_many_waiters")
    assert time.monotonic() - began < 10
    for waiter in waiters:
        waiter.__exit__(None, None, None)
    assert parts_of(api).wakeups.waiting == 0


def test_a_process_that_ends_lets_everybody_go(api: Api, pool: ThreadPoolExecutor) -> None:
    job = api.submit()
    future = held(api, pool, "GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
    parts_of(api).wakeups.close()
    assert future.result(10).json["status"] == "queued"
    wait_until(
        lambda: not any(thread.name == "wakeups" for thread in threading.enumerate()), 10, "the listener"
    )


@pytest.mark.parametrize(
    "header", ["return=minimal", "wait-for=x", 'handling="wait=9"', "", ";;", "foo; wait=9"]
)
def test_other_preferences_are_ignored(api: Api, header: str) -> None:
    job = api.submit(headers={"Prefer": header})
    answer = api.get(f"/v1/jobs/{job['id']}", headers={"Prefer": header})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers
