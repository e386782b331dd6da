"""`headrace listen` as a process: it receives, verifies, forwards, answers, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import urllib3
from click.testing import CliRunner
from client_testkit import JOB_ID, LoopbackServer, Reply, Script, problem
from headrace import webhooks
from headrace.cli import receiver as receiving
from headrace.cli.forward import Forwarder
from headrace.cli.inbox import Inbox
from headrace.cli.receiver import Receiver
from headrace.cli.root import cli
from webhook_testkit import body, endpoint, new_secret, signed

COMMAND = [sys.executable, "-c", "from headrace.cli import main; main()", "listen"]
DEADLINE_S = 60


class Listening:
    """A running `headrace listen`, and the endpoint it registered."""

    def __init__(self, process, live):
        self.process = process
        self.live = live
        self.id = live and next(iter(live.webhooks.endpoints), None)

    def line(self):
        return self.process.stdout.readline()

    def receive(self, kind="job.completed", **data):
        """What the sender saw of a delivery, and what was printed of it."""
        sent = self.live.webhooks.publish(self.id, kind, **data)
        return sent, self.line()

    def stop(self, number=signal.SIGINT):
        """What was printed in the end, to stdout and to stderr."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def listen(request):
    """Starts the command against `live`, or against `scripted` where a test asks for that."""
    live = None if "scripted" in request.fixturenames else request.getfixturevalue("live")

    @contextmanager
    def start(*options, ready=r"Ctrl-C", stream="stderr", **environ):
        process = subprocess.Popen(
            [*COMMAND, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1"} | environ,
        )
        try:
            told = ""
            while not re.search(ready, told):
                line = getattr(process, stream).readline()
                assert line, f"ended early: {told}{process.communicate()}"
                told += line
            listening = Listening(process, live)
            listening.told = told
            yield listening
        finally:
            process.kill()
            process.communicate()

    return start


def listen_json(listen, *options, **environ):
    return listen("--json", *options, ready="whk_", stream="stdout", **environ)


def _run(*args):
    return CliRunner().invoke(cli, ["listen", *args])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_registers_shows_and_removes(listen, live, number):
    with listen("--events", "job.started,job.completed") as listening:
        (registered,) = live.webhooks.endpoints.values()
        assert registered["events"] == ["job.started", "job.completed"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", registered["url"])
        secret = live.webhooks._secrets[listening.id]
        assert listening.told == (
            f"{listening.id} at {registered['url']} for job.started, job.completed\n"
            f"its secret is {secret}\nCtrl-C ends it and removes the endpoint\n"
        )
        sent, shown = listening.receive(id=JOB_ID, status="succeeded")
        assert sent["attempts"][0]["status_code"] == 200
        assert re.fullmatch(rf"\d\d:\d\d:\d\d  ✓  job.completed  {JOB_ID}  succeeded\n", shown)
        assert listening.stop(number) == ("", "")
        assert listening.process.returncode == 0
        assert live.webhooks.endpoints == {}


def test_json_has_the_endpoint_first_and_then_a_line_each(listen, live):
    with listen_json(listen) as listening:
        assert json.loads(listening.told)["secret"] == live.webhooks._secrets[listening.id]
        sent, line = listening.receive(id=JOB_ID, status="failed")
        shown = json.loads(line)
        assert shown.pop("received_at").endswith("Z")
        assert shown == {
            "object": "received_webhook",
            "verified": True,
            "error": None,
            "webhook_id": sent["id"],
            "type": "job.completed",
            "timestamp": "2026-01-31T12:00:00Z",
            "data": {"id": JOB_ID, "status": "failed"},
            "forward": None,
            "answered": 200,
        }
        assert listening.stop() == ("", "")


def test_the_application_gets_the_exact_bytes_and_its_answer_is_passed_back(listen, live):
    application = Script()
    application.then(Reply(201), Reply(503, headers={"Retry-After": "7"}), Reply(302), Reply(204))
    with (
        LoopbackServer(application) as server,
        listen_json(listen, "--forward", f"{server.url}/hook?x=1") as listening,
    ):
        secret = json.loads(listening.told)["secret"]
        for status in (201, 503, 302, 204):
            sent, line = listening.receive(id=JOB_ID, text="grüße ☃")
            (tried,) = sent["attempts"]
            assert (tried["status_code"], json.loads(line)["answered"]) == (status, status)
            assert tried["retry_after"] == ("7" if status == 503 else None)
            forwarded = json.loads(line)["forward"]
            assert (forwarded["status"], forwarded["error"]) == (status, None)
            assert 0 < forwarded["latency_s"] < 10
            got = application.requests[-1]
            assert (got.method, got.path, got.query) == ("POST", "/hook", {"x": "1"})
            assert got.body == sent["body"].encode()
            assert webhooks.verify(got.headers, got.body, secret).id == sent["id"]
            assert got.headers["Content-Type"] == "application/json"
            assert got.headers["User-Agent"] == "Headrace-Webhooks/0"
        assert len(application.requests) == 4


def test_an_application_that_is_away_is_a_502(listen):
    with LoopbackServer(Script()) as gone:
        url = gone.url
    with listen("--forward", url) as listening:
        sent, shown = listening.receive(id=JOB_ID)
        assert sent["attempts"][0]["status_code"] == 502
        assert re.search(r"→ Connection refused \(\d+ ms\)$", shown)
        assert f"forwarding to {url}\n" in listening.told


def test_a_410_of_the_application_comes_with_a_warning(listen):
    with LoopbackServer(Script().then(Reply(410))) as server, listen("--forward", server.url) as listening:
        _, shown = listening.receive(id=JOB_ID)
        assert re.search(r"→ 410 \(\d+ ms\)  → a 410 disables the endpoint$", shown)


def test_what_is_not_verified_is_shown_and_not_forwarded(listen, live):
    application = Script()
    with LoopbackServer(application) as server, listen_json(listen, "--forward", server.url) as listening:
        live.webhooks._secrets[listening.id] = new_secret()
        sent, line = listening.receive(id=JOB_ID)
        assert sent["attempts"][0]["status_code"] == 400
        shown = json.loads(line)
        assert (shown["verified"], shown["error"], shown["data"]) == (False, "wrong_signature", None)
        assert application.requests == []


def test_no_proxy_comes_between(listen):
    proxy, application = Script(), Script().then(Reply(200))
    with LoopbackServer(proxy) as between, LoopbackServer(application) as server:
        environ = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), between.url)
        with listen("--forward", server.url, **environ) as listening:
            listening.receive(id=JOB_ID)
        assert (len(application.requests), proxy.requests) == (1, [])


def test_whatever_the_event_holds_does_not_steer_the_terminal(listen):
    with listen() as listening:
        _, shown = listening.receive("job.completed\x1b]0;owned\x07", id="\x9b31m\nx\u202e", status=["a"])
        assert not set("\x1b\x07\x9b\u202e") & set(shown)


def test_a_tunnel_is_registered_as_it_was_given(listen, live):
    port = _free_port()
    with listen("--port", str(port), "--public-url", "https://tunnel.example/x") as listening:
        assert live.webhooks.endpoints[listening.id]["url"] == "https://tunnel.example/x"
        live.webhooks.endpoints[listening.id]["url"] = f"http://127.0.0.1:{port}/x"
        sent, _ = listening.receive(id=JOB_ID)
        assert sent["attempts"][0]["status_code"] == 200


def test_a_server_that_calls_no_loopback_is_explained(live):
    live.webhooks.calls_loopback = False
    done = _run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{live.url} calls no loopback address such as 127.0.0.1" in done.stderr
    assert "headracectl up" in done.stderr
    assert "--public-url" in done.stderr


def test_a_tunnel_that_the_server_refuses_is_the_servers_word(scripted):
    wrong = {"pointer": "/url", "code": "invalid_url", "message": "must be https"}
    scripted.then(problem(422, "invalid_request", errors=[wrong]))
    done = _run("--port", str(_free_port()), "--public-url", "http://tunnel.example")
    assert done.exit_code == 2
    assert done.stderr == "headrace: 422 invalid_request: /url: must be https (request req_7)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forward", "localhost:3000"], "the URL must look like http://localhost:3000/hook"),
        (["--forward", "ftp://localhost/x"], "must look like"),
        (["--forward", "http://"], "must look like"),
        (["--forward", "http://localhost:99999"], "must look like"),
        (["--forward", "http://localhost/\nx"], "must look like"),
        (["--forward", "http://[::1"], "must look like"),
        (["--forward", "http://me:secret@localhost"], "no user or password"),
        (["--forward", "http://localhost:4000/x", "--port", "4000"], "--forward leads back to --port"),
        (["--events", "job.done"], "'job.done' is no event"),
        (["--public-url", "https://tunnel.example"], "--public-url needs --port"),
        (["--public-url", "tunnel.example", "--port", "4000"], "must look like https://my-tunnel.example"),
        (["--port", "70000"], "--port"),
    ],
)
def test_bad_usage_is_found_before_anything_is_registered(scripted, arguments, message):
    done = _run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert scripted.requests == []


def test_a_port_that_is_taken_is_found_before_anything_is_registered(scripted):
    with LoopbackServer(Script()) as other:
        done = _run("--port", other.url.rpartition(":")[2])
    assert done.exit_code == 2
    assert re.search(r"can't listen on port \d+: Address already in use", done.stderr)
    assert scripted.requests == []


def test_an_endpoint_that_someone_removed_meanwhile_is_no_error(listen, live):
    with listen() as listening:
        live.webhooks.endpoints.clear()
        assert listening.stop() == ("", "")
        assert listening.process.returncode == 0


def test_an_endpoint_that_could_not_be_removed_is_named(scripted, listen):
    made = endpoint(secret=new_secret())
    scripted.then(Reply(201, made), problem(403, "forbidden", "no such scope"))
    with listen() as listening:
        _, told = listening.stop()
        assert f"an endpoint was left behind; remove it: headrace webhooks delete {made['id']}" in told
        assert listening.process.returncode == 3


def test_a_stop_while_it_registers_still_removes(scripted, listen):
    made = endpoint(secret=new_secret())
    asked, go_on = threading.Event(), threading.Event()

    def slowly(_):
        asked.set()
        assert go_on.wait(DEADLINE_S)
        return Reply(201, made)

    scripted.then(slowly, Reply(body={"deleted": True}))
    with listen(ready="") as listening:
        assert asked.wait(DEADLINE_S)
        listening.process.send_signal(signal.SIGTERM)
        go_on.set()
        listening.process.communicate(timeout=DEADLINE_S)
        assert listening.process.returncode == 0
    assert [request.method for request in scripted.requests] == ["POST", "DELETE"]


def test_it_ends_when_nobody_reads_any_more(listen, live):
    with listen_json(listen) as listening:
        listening.process.stdout.close()
        live.webhooks.publish(listening.id, "job.completed", id=JOB_ID)
        assert listening.process.wait(DEADLINE_S) == 141
        assert listening.process.stderr.read() == ""
        assert live.webhooks.endpoints == {}


@pytest.fixture
def receiver():
    """A receiver that runs, and what it was given."""
    taken, over = [], threading.Event()
    running = Receiver(0)
    running.taken = taken

    def take(headers, payload):
        taken.append((dict(headers), payload))
        return receiving.Reply(200)

    thread = threading.Thread(target=running.run, args=(take, over.is_set))
    thread.start()
    yield running
    over.set()
    thread.join()
    running.server_close()


def _raw(receiver, request, cut=False):
    """The first line of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", receiver.server_port), DEADLINE_S) as line:
        line.sendall(request)
        if cut:
            line.shutdown(socket.SHUT_WR)
        return line.makefile("rb").readline()


def test_a_body_is_capped_before_it_is_read(receiver):
    for length in (receiving.LARGEST_BODY + 1, 10**11, 10**30):
        assert b" 413 " in _raw(receiver, f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
    for header in ("", "Content-Length: -1\r\n", "Transfer-Encoding: chunked\r\n"):
        assert b" 411 " in _raw(receiver, f"POST / HTTP/1.1\r\n{header}\r\n".encode())
    assert receiver.taken == []
    largest = b"x" * receiving.LARGEST_BODY
    assert urllib3.request("POST", receiver.url, body=largest).status == 200
    assert receiver.taken[0][1] == largest


def test_half_a_body_is_nothing(receiver):
    assert _raw(receiver, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", cut=True) == b""
    assert b" 501 " in _raw(receiver, b"GET / HTTP/1.1\r\n\r\n")
    assert receiver.taken == []


def test_it_takes_so_many_at_once_and_no_more(receiver):
    many = receiving._MOST_AT_ONCE
    inside, done = threading.Semaphore(0), threading.Event()
    lock, now, most = threading.Lock(), 0, 0

    def held(headers, payload):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        inside.release()
        assert done.wait(DEADLINE_S)
        with lock:
            now -= 1
        return receiving.Reply(200)

    receiver.answer = held
    statuses = []

    def knock():
        statuses.append(urllib3.request("POST", receiver.url, body=b"", retries=False).status)

    threads = [threading.Thread(target=knock) for _ in range(many + 4)]
    for thread in threads:
        thread.start()
    for _ in range(many):
        assert inside.acquire(timeout=DEADLINE_S)
    assert not inside.acquire(timeout=0.2)
    done.set()
    for thread in threads:
        thread.join()
    assert (most, statuses) == (many, [200] * (many + 4))


def test_a_delivery_that_came_before_it_runs_is_answered_then():
    secret = new_secret()
    over = threading.Event()
    receiver = Receiver(0)
    payload = body(id=JOB_ID)
    answers = []

    def send():
        answers.append(urllib3.request("POST", receiver.url, body=payload, headers=signed([secret], payload)))
        over.set()

    sender = threading.Thread(target=send)
    sender.start()
    receiver.run(Inbox(secret, None, as_json=True).take, over.is_set)
    sender.join()
    receiver.server_close()
    assert answers[0].status == 200


def test_an_application_that_never_answers_is_a_504_in_time(monkeypatch):
    monkeypatch.setattr("headrace.cli.forward._TOTAL_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        forwarded = Forwarder(url).send([], b"{}")
    assert (forwarded.status, forwarded.error) == (504, "no answer in time")
    assert time.monotonic() - began < 10


def test_an_answer_without_an_end_is_not_waited_for():
    endless = threading.Event()

    def pieces():
        yield b"x"
        endless.wait(DEADLINE_S)

    with LoopbackServer(lambda _: Reply(200, pieces=pieces())) as server:
        assert Forwarder(server.url).send([], b"{}").status == 200
        endless.set()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]
