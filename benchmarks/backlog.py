"""Backlog: texts submitted by 16 clients as fast as they can, until the last result is there."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from headrace import Client

from benchmarks.baselines.torch_loop import sorted_loop
from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack

CLIENTS = 16


def run(stack: Stack, *, count: int = 400) -> Measured:
    """Texts per second end to end, and of the plain torch loop with one thread beside it."""
    texts = log_normal_texts(count)
    with Client(stack.url, stack.api_key) as client, ThreadPoolExecutor(CLIENTS) as pool:
        client.run("minilm", {"text": "load the model"})
        started = time.perf_counter()
        jobs = list(pool.map(lambda text: client.submit("minilm", {"text": text}), texts))
        submitted = time.perf_counter()
        for job in jobs:
            job.wait(300)
        ended = time.perf_counter()
        sizes = [job.metrics["batch_size"] for job in jobs]
    rate, loop = count / (ended - started), sorted_loop(texts)
    return [
        Figure("backlog", "plain sorted torch loop, 1 process × 1 thread", loop, "texts/s"),
        Figure("backlog", "minilm over HTTP", rate, "texts/s", rate / loop),
        Figure("backlog", "submits alone", count / (submitted - started), "jobs/s"),
        Figure("backlog", "mean micro-batch", count / sum(1 / size for size in sizes), "jobs"),
    ]


def log_normal_texts(count: int) -> list[str]:
    """Different texts of about 7 to 120 tokens, log-normal with a mean near 36, the same in every run."""
    source = random.Random(36)
    words = ["water", "mill", "stone", "river", "grain", "wheel", "flour", "bread", "dam", "gate"]
    texts = []
    for number in range(count):
        length = min(118, max(5, round(source.lognormvariate(3.4, 0.6))))
        texts.append(f"{number} " + " ".join(source.choices(words, k=length)))
    return texts
