"""Ray Serve: two replicas, batches of up to 32 within 10 ms."""

import os
import signal

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.model import Encoder


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=64)
class Embed:
    """Batches are formed by `serve.batch`: first come, first served."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    async def encode(self, texts: list[str]) -> list[list[float]]:
        return self.encoder.encode(texts)

    async def __call__(self, request: Request) -> dict:
        body = await request.json()
        return {"embedding": await self.encode(body["text"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCHMARK_PORT"])})
    serve.run(Embed.bind(), route_prefix="/embed")
    signal.pause()
