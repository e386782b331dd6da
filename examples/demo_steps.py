"""The steps of the demo. Each runs real work through the stack and yields what it measured and checked.

A new step is one function here, and its name in `STEPS`.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

import requests
from headrace import Batch, Client, Job, JobFailed, ValidationError, WebhookVerificationError, webhooks
from rich.console import Console
from rich.progress import Progress, TextColumn

PATIENCE_S = 60
"""How long any one job may take before the demo gives up on it."""

BULK_S = 100
"""How long the bulk step may take."""

TEXTS = 64
LINES = 1000
THREADS = 8
SEQUENTIAL = 50


@dataclass(frozen=True)
class Check:
    """One line of the table. `ok` is None for a number that nothing is expected of."""

    what: str
    measured: str
    ok: bool | None = None


@dataclass(frozen=True)
class Demo:
    """What a step works with: the running stack, and the jobs that earlier steps ran."""

    client: Client
    env: Mapping[str, str]
    operate: Callable[..., str]
    """Run `headracectl` on the stack and return what it prints."""


T = TypeVar("T")
Step = Callable[[Demo], Iterator[Check]]


def embedding(demo: Demo) -> Iterator[Check]:
    """Embed a sentence with MiniLM (the first job also loads the model)"""
    sentence = "The mill wheel turns as long as water flows."
    output, took = timed(lambda: embed(demo, sentence))
    first = " ".join(f"{number:+.4f}" for number in output[:4])
    yield Check("the first job of a model", seconds(took))
    yield Check("384 numbers of length 1", f"{first} …", len(output) == 384 and near_one(output))
    again = [timed(lambda: embed(demo, sentence))[1] for _ in range(9)]
    yield Check("once the model is loaded, median of 9", seconds(statistics.median(again)))


def meaning(demo: Demo) -> Iterator[Check]:
    """Compare meanings: related sentences must be closer than unrelated ones"""
    cat = embed(demo, "A cat sleeps on the sofa.")
    kitten = embed(demo, "A kitten naps on the couch.")
    tax = embed(demo, "The tax return is due in May.")
    related, unrelated = cosine(cat, kitten), cosine(cat, tax)
    yield Check("cosine: cat on sofa, kitten on couch", f"{related:.3f}")
    yield Check("cosine: cat on sofa, tax return", f"{unrelated:.3f}")
    yield Check("related is closer", f"by {related - unrelated:.3f}", related > unrelated + 0.2)


def polled(demo: Demo) -> Iterator[Check]:
    """Submit, then poll"""
    job, took = timed(lambda: demo.client.submit("minilm", {"text": "Polling asks again and again."}))
    yield Check("an id at once", f"{job.id[:12]}… in {seconds(took)}", job.id.startswith("job_"))
    polls, deadline = 0, time.monotonic() + PATIENCE_S
    while not job.done and time.monotonic() < deadline:
        time.sleep(0.02)
        polls += 1
        job.refresh()
    yield Check("succeeded", f"after {polls} polls", job.status == "succeeded")


def waited(demo: Demo) -> Iterator[Check]:
    """Submit, and let the server hold the answer until the job has ended"""
    job = demo.client.submit("echo", {"sleep_ms": 300}, wait=30)
    yield Check("one request, the finished job", f"total {seconds(job.metrics['total_time'])}", job.done)
    events = [event.type for event in demo.client.submit("echo", {"sleep_ms": 1500}).stream()]
    said = ", ".join(f"{count} {kind}" for kind, count in Counter(events).items())
    yield Check("followed as events", said, events[-1] == "completed" and "progress" in events)


def replayed(demo: Demo) -> Iterator[Check]:
    """Send a request twice under one Idempotency-Key"""
    key = str(uuid4())
    first = demo.client.submit("echo", {"text": "once"}, idempotency_key=key)
    again = demo.client.submit("echo", {"text": "once"}, idempotency_key=key)
    yield Check("the same request: the same job", f"{again.id[:12]}…", first.id == again.id)
    try:
        demo.client.submit("echo", {"text": "twice"}, idempotency_key=key)
        code = "no error"
    except ValidationError as error:
        code = error.code
    yield Check("another body: refused", code, code == "idempotency_key_reused")


def failed(demo: Demo) -> Iterator[Check]:
    """Run a job that fails"""
    try:
        demo.client.run("echo", {"fail": "on purpose"}, PATIENCE_S, retry={"max_attempts": 1})
        error, attempts = None, []
    except JobFailed as failure:
        error, attempts = failure.job.error, failure.job.attempts
    said = f"{error['code']}: {error['message']}" if error else "it did not fail"
    yield Check("its error is on the job", said, error is not None and error["code"] == "model_error")
    yield Check("its attempts are on the job", f"{len(attempts)}", len(attempts) == 1)


def burst(demo: Demo) -> Iterator[Check]:
    """Send 64 texts from 8 threads: workers put what has gathered into micro-batches"""

    def submit(number: int) -> Job:
        text = f"Sentence {number} of a burst" + " and more" * (number % 7)
        return demo.client.submit("minilm", {"text": text})

    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        jobs = list(threads.map(submit, range(TEXTS)))
        submitted = time.monotonic() - began
        list(threads.map(lambda job: job.wait(PATIENCE_S), jobs))
    took = time.monotonic() - began
    sizes = Counter(job.metrics["batch_size"] for job in jobs)
    yield Check("64 accepted", seconds(submitted), len({job.id for job in jobs}) == TEXTS)
    good = all(job.status == "succeeded" for job in jobs)
    yield Check("64 succeeded", f"{seconds(took)}, {TEXTS / took:.0f} jobs/s", good)
    said = ", ".join(f"{count} in {size}s" for size, count in sorted(sizes.items()))
    yield Check("jobs by micro-batch size", said, max(sizes) > 1)


def bulk(demo: Demo) -> Iterator[Check]:
    """Embed a file of 1,000 lines"""

    def sentence(number: int) -> str:
        return f"Line {number} of a file that nobody waits for" + ", or hardly anybody" * (number % 5)

    names = [f"line-{number}" for number in range(LINES)]
    with TemporaryDirectory() as folder, bar() as show:
        file = Path(folder) / "lines.jsonl"
        lines = ({"custom_id": name, "text": sentence(n)} for n, name in enumerate(names))
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        results, took = timed(
            lambda: list(demo.client.batches.run(file, model="minilm", timeout=BULK_S, on_progress=show))
        )
        again = list(demo.client.batches.run(file, model="minilm", timeout=BULK_S))
    good = sum(result.ok for result in results)
    yield Check(f"{LINES:,} succeeded", f"{seconds(took)}, {LINES / took:.0f} lines/s", good == LINES)
    got = [result.custom_id for result in results]
    yield Check("each line once, in the file's order", f"{len(set(got)):,} of {LINES:,}", got == names)
    alike = [
        cosine(results[n].output["embedding"], embed(demo, sentence(n))) for n in range(0, LINES, LINES // 8)
    ]
    worst = min(alike)
    yield Check(f"{len(alike)} of them as single jobs: cosine", f"at least {worst:.6f}", worst > 0.9999)
    said = f"{len(list(demo.client.batches.list()))} batch in all"
    yield Check("the same file again: the same batch", said, again == results and said[:2] == "1 ")


def latency(demo: Demo) -> Iterator[Check]:
    """Run 50 echo jobs one after the other: submit, claim, run, settle and wake in one request"""
    times = [timed(lambda: demo.client.submit("echo", {"n": 1}, wait=10)) for _ in range(SEQUENTIAL)]
    took = sorted(elapsed for _, elapsed in times)
    yield Check("all ended while the answer was held", f"{len(took)}", all(job.done for job, _ in times))
    p50 = statistics.median(took)
    # A lost doorbell or wake-up would be found by the sweep, a second or more later.
    yield Check("p50, with nothing else running", seconds(p50), p50 < 0.5)
    yield Check("slowest", seconds(took[-1]))


def called_back(demo: Demo) -> Iterator[Check]:
    """Be called back: receive one webhook and verify it"""
    secret = demo.client.webhooks.default_secret().secret
    with receiver() as (url, received):
        job = demo.client.submit("minilm", {"text": "We call you."}, webhook=url, wait=PATIENCE_S)
        got = received.get(timeout=PATIENCE_S)
    event = webhooks.verify(got.headers, got.body, secret)
    said = f"{event.type}, {event.data['status']}, {len(got.body)} bytes"
    yield Check("one webhook verified", said, event.data["id"] == job.id)
    yield Check("after the job's end", seconds((got.at - job.completed_at).total_seconds()))
    try:
        webhooks.verify(got.headers, got.body.replace(b"succeeded", b"Succeeded"), secret)
        said = "accepted"
    except WebhookVerificationError as error:
        said = error.reason
    yield Check("with one byte changed: refused", said, said == "wrong_signature")


def monitored(demo: Demo) -> Iterator[Check]:
    """Read the list of tasks from Flower"""
    deadline = time.monotonic() + 15
    while True:
        tasks = flower(demo, "/api/tasks").values()
        ended = [task for task in tasks if task["state"] == "SUCCESS"]
        if len(ended) == len(tasks) or time.monotonic() > deadline:
            break
        time.sleep(0.5)  # events reach Flower a moment after the fact
    yield Check("tasks", f"{len(ended)} of {len(tasks)} succeeded", bool(tasks) and len(ended) == len(tasks))
    yield Check("task names", ", ".join(sorted({task["name"] for task in tasks})))
    shown = str([(task["args"], task["kwargs"], task["result"]) for task in tasks])
    yield Check("no input or output in them", "searched for 'Sentence'", "Sentence" not in shown)


def conserved(demo: Demo) -> Iterator[Check]:
    """Ask the doctor: is every job in exactly one place?"""
    report = json.loads(demo.operate("doctor", "--json"))
    counts = ", ".join(f"{count} {place}" for place, count in report["counts"].items())
    yield Check("headracectl doctor", counts, report["ok"])


STEPS: tuple[Step, ...] = (
    embedding,
    meaning,
    polled,
    waited,
    replayed,
    failed,
    burst,
    bulk,
    latency,
    called_back,
    monitored,
    conserved,
)


@dataclass(frozen=True)
class Received:
    """A request as it came, and when."""

    headers: list[tuple[str, str]]
    body: bytes
    at: datetime


@contextmanager
def receiver() -> Iterator[tuple[str, "SimpleQueue[Received]"]]:
    """The URL of a webhook receiver, and what comes there. Yours would be a route of your application."""
    received: SimpleQueue[Received] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = datetime.now(UTC)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put(Received(self.headers.items(), body, at))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet: the table says it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", received
        finally:
            server.shutdown()


@contextmanager
def bar() -> Iterator[Callable[[Batch], None]]:
    """A progress bar for a batch, on stderr as all progress of the demo."""
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("   ", total=None, rate="")

        def show(batch: Batch) -> None:
            left = batch.counts["queued"] + batch.counts["running"]
            rate = batch.progress["rate_per_s"]
            said = f"{batch.status}, {rate:.0f} lines/s" if rate else batch.status
            progress.update(task, total=batch.total or None, completed=batch.total - left, rate=said)

        yield show


def flower(demo: Demo, path: str) -> dict[str, Any]:
    """What Flower's API says."""
    with requests.Session() as session:
        # A proxy of the environment can't reach our loopback.
        session.trust_env = False
        answer: dict[str, Any] = session.get(demo.env["HEADRACE_FLOWER_URL"] + path, timeout=10).json()
    return answer


def embed(demo: Demo, text: str) -> list[float]:
    """A text's embedding, by the real model."""
    embedded: list[float] = demo.client.run("minilm", {"text": text}, PATIENCE_S)["embedding"]
    return embedded


def cosine(one: list[float], other: list[float]) -> float:
    """Of embeddings of length 1, the cosine is the dot product."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def near_one(vector: list[float]) -> bool:
    """Whether the vector's length is 1, but for rounding."""
    return abs(cosine(vector, vector) - 1) < 1e-3


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What the call returns, and how many seconds it took."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def seconds(value: float) -> str:
    """`1.23 s` or `12.3 ms`."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"
