"""mosec: two workers, batches of up to 32 within 10 ms."""

import os
import sys

from mosec import Server, Worker

from benchmarks.peers.model import Encoder


class Embed(Worker):
    """Batches are formed by mosec: first come, first served."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def forward(self, data: list[dict]) -> list[dict]:
        vectors = self.encoder.encode([item["text"] for item in data])
        return [{"embedding": vector} for vector in vectors]


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", os.environ["BENCHMARK_PORT"], "--log-level", "error"]
    sys.argv += ["--timeout", "120000"]
    server = Server()
    server.append_worker(Embed, num=2, max_batch_size=32, max_wait_time=10)
    server.run()
